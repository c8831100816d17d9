"""A tick's trace on a real way: an allocator's wave with its steps, the gateway's part of it, and the policy, all of one tick."""

import shutil
import tempfile
from pathlib import Path

import pytest

from hcp_pipelines.runtime.spans import TICK, name_platform, platform_name, send_to
from hcp_pipelines.storage.platform import know_platform_at_once
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.support.cli import hcp
from tests.support.edge import until
from tests.support.operated_site import FACILITY, MINERS, OperatedSite

__all__ = ["hcp"]

ALL = set(range(MINERS))


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="o", dir="/tmp"))
    yield path
    shutil.rmtree(path)


async def test_a_price_that_switches_devices_leaves_a_trace_of_its_tick(hcp, folder, settings, database):
    told = []
    forget = send_to(told.append)
    try:
        async with OperatedSite(hcp, folder, settings, database) as site:
            name_platform("")
            await site.start_allocator()
            (announced,) = (entry for entry in site.facility.log_entries(0, 99) if entry.kind == "epoch")
            (cluster,) = database.execute("select system_identifier from pg_control_system()").fetchone()
            assert pb.Announce.FromString(announced.payload).platform == platform_name(), "its gateway is told"
            assert platform_name().startswith(f"{cluster}/")
            name_platform("")
            with connect(settings, Role.CONTROL) as launcher_s:
                know_platform_at_once(launcher_s)
            assert pb.Announce.FromString(announced.payload).platform == platform_name(), (
                "and the launcher's is the same"
            )
            site.publish_policy()
            await until(lambda: site.mining() == ALL, "a low price wakes them")
            await until(site.is_read, "the gateway has read what they draw")
            half = f"{site.meter_mw() / 2:.4f}"
            await site.order("curtail", FACILITY, "--mw", half, "--reason", "hot", "--wait")  # no tick begins its waves
            before = len(told)
            site.price(5000.0)
            await until(
                lambda: any(one.name == "ack" for one in told[before:]), "the wave of that price is acknowledged"
            )
    finally:
        forget()
    ack = next(one for one in told[before:] if one.name == "ack")
    wave = next(one for one in told if one.key == ack.under)
    parts = {one.name: one for one in told if one.under == wave.key}
    assert set(parts) == {"read", "plan", "journal", "send", "ack", "gateway"}
    assert {one.tick_id for one in (wave, *parts.values())} == {wave.tick_id}
    assert (wave.under, wave.facts["facility_id"]) == (TICK, FACILITY)
    steps_s = sum(one.took_s for name, one in parts.items() if name != "gateway")
    assert steps_s == pytest.approx(wave.took_s, abs=1e-6)
    assert 0 < parts["gateway"].took_s < wave.took_s
    begun = {one.under for one in told if one.name == "ack"}
    assert {one.key for one in told if one.name == "wave"} - begun, "waves that no tick began are told, too"
    keys = {(one.tick_id, one.key) for one in told}
    assert [one for one in told if one.under != TICK and (one.tick_id, one.under) not in keys] == []
    (policy,) = (one for one in told if one.name == "policy_admitted")
    assert policy.under == TICK
    assert policy.facts["facility_id"] == FACILITY
