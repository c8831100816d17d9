"""A facility file's own limits for old prices: they go before the platform's, at owner, admission and gateway alike."""

import contextlib
from dataclasses import replace

import yaml

from hcp_pipelines.allocator.admit import judge, reason_of
from hcp_pipelines.allocator.control import FacilityControl, Hooks
from hcp_pipelines.allocator.decide import InForce, Limits
from hcp_pipelines.allocator.leases import Lease
from hcp_pipelines.allocator.returns import Wiring
from hcp_pipelines.allocator.writer import JournalWriter
from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.document import Staleness
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor import configuration
from tests.support import fleet

PLATFORM = Limits(900.0, 7200.0, 1800.0, 3.0)
OWN = Staleness(power_price_s=60.0, hold_s=5.0)


def inventory(staleness):
    return fleet.inventory(staleness=staleness)


@contextlib.asynccontextmanager
async def nowhere(_address, _tls):
    raise ConfigError("there is no gateway")
    yield


async def in_hand(staleness):
    """A facility's owner as an allocator takes it in hand."""
    made = inventory(staleness)
    clock = SystemClock(Anchor(SystemClock().real_now(), fleet.NOON, 1.0))

    async def never(*_):
        return False

    writer = JournalWriter(never, "allocator-a")
    hooks = Hooks(PLATFORM, nowhere, None, never, never, lambda *_: None)
    site = fleet.site_of(made, made.capacity_mw, "unix:/nowhere.sock")
    control = FacilityControl(site, Lease("hou-1", 1, 1e12), Wiring("allocator-a", clock, writer, lambda: None), hooks)
    await control.stop()
    return control.owner


async def test_what_the_file_says_goes_before_the_platforms_and_what_it_leaves_out_does_not():
    assert (await in_hand(OWN)).following.limits == Limits(60.0, 7200.0, 5.0, 3.0)
    assert (await in_hand(Staleness(btc_price_s=7.0))).following.limits == Limits(900.0, 7.0, 1800.0, 3.0)
    assert (await in_hand(Staleness())).following.limits == PLATFORM


async def test_a_policy_is_judged_by_the_same_limits():
    book = fleet.book(30.0)
    for staleness, word in ((Staleness(), ""), (OWN, "power.rt_lmp")):
        owner = await in_hand(staleness)
        policy = fleet.policy(inventory(staleness), book)
        policy = policy.model_copy(update={"input_age_s": policy.input_age_s | {"power.rt_lmp": 300.0}})
        candidate = InForce(2, policy, compile_policy(policy))
        found = reason_of(judge(owner, candidate, policy.digest(), book, fleet.NOON, Settings()))
        assert word in found, found
        assert bool(found) == bool(word)


def test_the_gateways_file_has_the_facilitys_own(tmp_path):
    settings = Settings(state_dir=tmp_path)
    settings.at("edge").mkdir(parents=True)
    sites = [inventory(OWN), replace(inventory(Staleness()), facility_id="hou-2")]
    configuration._write_gateway(settings, "gateway-1", "unix:g.sock", sites, 20.0)
    written = yaml.safe_load(settings.at("edge", "gateway-1.yaml").read_text())["facilities"]
    assert [site["price_staleness_s"] for site in written] == [60.0, settings.price_staleness_s]
