"""SM-26: five thousand miners behind one process, each asked over its own protocol and each saying who it is."""

from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.discovery.scan import scan
from hcp_pipelines.devices.miner.telemetry import Dialect
from hcp_pipelines.domain.clock import SystemClock
from tests.support.miner_driver import options_of
from tests.support.miners import Hall, group

MINERS = 5_080


async def test_five_thousand_miners_behind_one_process_are_found_each_by_itself(tmp_path):
    async with Hall(tmp_path, groups=[group("luxos", 0, MINERS)], is_mapped=False) as hall:
        addresses = expand(["127.16.0.1-127.16.19.254"])
        found = await scan(addresses, options_of(hall, deadline_s=10.0), SystemClock(), lambda *_: None, probes=128)
    assert len(addresses) == len(found.found) == MINERS
    assert {(one.dialect, one.model, one.problem) for one in found.found} == {(Dialect.LUXOS, "S21", "")}
    assert len({one.mac for one in found.found}) == len({one.serial for one in found.found}) == MINERS
