"""Switches of what ran, from a gateway's durable log into the lake: each that is over once, over restarts of either side."""

import asyncio
import contextlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
import structlog

from hcp_pipelines.collector.switch_log import TABLE, SwitchLog, rows_of
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.switches import Outcome, Phase, Stage, Switch
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.switches import switch_message
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.integration.test_telemetry_stream import register
from tests.support.edge import FIRST_GPU, Gateway, World, until

COMMAND = "6f1c0f5e-8f0e-4a44-9a34-b5b1c4c7d1f"
BEGUN = Switch(
    f"{COMMAND}0", 0, "10.1.0.9", (FIRST_GPU, FIRST_GPU + 1), DeviceState.INFERENCE_BATCH, WorkloadSpec("llama", 140.0),
    (FIRST_GPU,), DeviceState.TRAINING, WorkloadSpec("mine", 20.0, workload_id="job-2"),
)  # fmt: skip
DONE = replace(
    BEGUN, stage=Stage.OVER, outcome=Outcome.SWITCHED, phases_ms={Phase.PAUSE: 1.5, Phase.START: 2.5},
    device_ms={Phase.START: 8000.0}, total_ms=12.5,
)  # fmt: skip


def entry(seq, switch):
    message = switch_message(switch)
    message.simulated_at = "2025-01-01T12:00:00+00:00"
    payload = message.SerializeToString()
    return pb.LogEntry(seq=seq, kind="switch", payload=payload, stored_at="2026-01-05T00:00:00+00:00")


def test_a_row_is_a_switch_that_is_over_and_a_phase_that_was_not_needed_is_null():
    told = [entry(4, BEGUN), entry(5, DONE), pb.LogEntry(seq=6, kind="ack")]
    [row] = rows_of("one", told)
    assert (row["seq"], row["devices"], row["workload_id"], row["is_success"]) == (5, 2, "job-2", True)
    assert (row["control_ms"], row["control_pause_ms"], row["control_checkpoint_ms"]) == (12.5, 1.5, None)
    assert (row["device_start_ms"], row["device_pause_ms"], row["outcome"]) == (8000.0, None, "switched")


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def own_lake(settings):
    def clear():
        with lake.attach(settings) as connection:
            connection.execute(f"drop table if exists lake.{TABLE}")

    clear()
    yield settings
    clear()


@contextlib.asynccontextmanager
async def reading(settings):
    """The collector's reader of switches, some times a second."""
    context = ProcessContext("collector", settings, SystemClock(), structlog.get_logger("collector"))
    running = asyncio.create_task(SwitchLog(context, each_s=0.1).run())
    try:
        yield context
    finally:
        context.stop.set()
        await running


async def kept(gateway, *switches):
    """As the gateway's driver has them kept."""
    log = gateway.logs["one"]
    await log.append([(log.reserve(), "switch", entry(0, switch).payload) for switch in switches])


async def found(settings, wanted):
    """Wait until so many rows are there; their commands' last digit, in the order of the log."""
    rows = []

    def read():
        with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
            return connection.execute(f"select command_id[-1], facility_id from lake.{TABLE} order by seq").fetchall()

    async with asyncio.timeout(120):
        while len(rows) < wanted:
            with contextlib.suppress(duckdb.Error):  # the table is not there at first
                rows = await asyncio.to_thread(read)
            await asyncio.sleep(0.05)
    assert {facility for _, facility in rows} == {"one"}
    return [command for command, _ in rows]


async def test_each_switch_is_there_once_whoever_begins_anew(folder, own_lake, database):
    world = World(folder, sites=("one",), speed=1.0)
    await world.start()
    gateway = Gateway(folder, world, names=("one",))
    await gateway.start()
    try:
        register(database, gateway.address)
        await kept(gateway, BEGUN, DONE)
        async with reading(own_lake) as context:
            assert await found(own_lake, 1) == ["0"]
            await kept(gateway, replace(DONE, command_id=f"{COMMAND}1"))
            assert await found(own_lake, 2) == ["0", "1"]
            await gateway.stop()
            await until(lambda: "one: " in context.health["switch log"], "an absent gateway is told")
        await gateway.start()
        await kept(gateway, replace(DONE, command_id=f"{COMMAND}2"))
        async with reading(own_lake) as context:
            assert await found(own_lake, 3) == ["0", "1", "2"], "what is in the lake is not read again"
            await until(lambda: context.health["switch log"] == "", "all is well")
    finally:
        await gateway.stop()
        await world.kill()
