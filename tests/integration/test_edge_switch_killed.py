"""A gateway that is killed in the middle of switches: one process, GPUs in every phase at once, kill -9, and a second process."""

import asyncio
import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.clock import Anchor
from hcp_pipelines.wire import edge_v1_pb2 as pb
from simulators import faults
from tests.support.edge import GatewayProcess, Owner, bits
from tests.support.gpus import FIRST_GPU, START_S, STATES, gpu_world, plain_http

IDLE, BATCH, TRAINING = 1, 5, 6
GPUS = 5
FAILING, STARTING, STOPPING, PAUSING, CHECKPOINTING = range(GPUS)


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def changes_of(world, folder) -> dict:
    """The gateway's file: GPU nodes behind their own driver."""
    (folder / "token").chmod(0o600)
    driver = {
        "kind": "gpu_node", "exporter_port": world.exporter_port, "agent_port": world.agent_port,
        "token_file": str(folder / "token"), "poll_period_ms": 200, "exporter_interval_s": 0.2,
    }  # fmt: skip
    ladder = [{"state": s, "power_kw": watts / 1000, "settle_s": 400} for s, watts in STATES]
    group = {
        "group_id": "h100",
        "feeder_id": "f1",
        "first_slot": FIRST_GPU,
        "devices": GPUS,
        "pue": 1.1,
        "ladder": ladder,
    }
    return {"driver": driver, "groups": [group | {"addresses": [world.at(0)]}], "fallback": {}}


class Rig:
    """World, gateway process and owner."""

    def __init__(self, world, gateway) -> None:
        self.world, self.gateway, self.owner, self.http = world, gateway, None, plain_http()

    async def own(self, epoch: int) -> None:
        await self.gateway.start()
        self.owner = Owner(self.gateway.address, epoch=epoch)
        async with asyncio.timeout(120):
            while not (await self.owner.state()).reachable:
                await asyncio.sleep(0.05)
        await self.owner.own()

    async def command(self, *assignments) -> pb.Ack:
        ack = await self.owner.send(self.owner.make(*((s, [FIRST_GPU + g for g in gpus]) for s, gpus in assignments)))
        assert not ack.refusal
        return ack

    async def operations(self, gpu: int) -> list[tuple[str, str]]:
        """(kind, state) of what was done at a GPU, oldest first."""
        reply = await self.http.get(f"http://{self.world.at(0)}:{self.world.agent_port}/v1/operations")
        return [(one["kind"], one["state"]) for one in reversed(reply.json()["operations"]) if gpu in one["gpus"]]

    async def come_to(self, gpu: int, *operations: tuple[str, str], step_s=0.25) -> None:
        """Let time pass until a GPU has seen these operations, and no longer."""
        async with asyncio.timeout(120):
            while await self.operations(gpu) != list(operations):
                self.world.pass_time(step_s)
                await asyncio.sleep(0.01)

    async def switches(self) -> list[pb.Switch]:
        entries = await self.owner.log()
        return [pb.Switch.FromString(entry.payload) for entry in entries if entry.kind == "switch"]


async def test_a_gateway_that_is_killed_in_any_phase_goes_on_or_back_as_its_log_says(folder):
    async with gpu_world(folder, GPUS, collect_s=1.0) as world:
        anchor = Anchor(datetime.now(UTC), datetime.fromtimestamp(START_S, UTC), 1.0)
        (folder / "clock.json").write_text(anchor.dump())
        rig = Rig(world, GatewayProcess(folder, names=("one",), **changes_of(world, folder)))
        await rig.own(epoch=1)
        await _into_every_phase(rig)
        under_way = await rig.switches()
        await rig.owner.leave()
        assert rig.gateway.end(9) == -9
        await rig.own(epoch=2)
        try:
            await _all_over(rig)
            await _as_promised(rig, under_way)
            await asyncio.to_thread(_shown, folder)
        finally:
            await rig.owner.leave()
            await rig.http.aclose()
            rig.gateway.end()


def _shown(folder: Path) -> None:
    """As the command line shows them: each once, as it last stood."""
    state_dir = folder / "hcp"
    (state_dir / "edge").mkdir(exist_ok=True)
    shutil.copy(folder / "edge.yaml", state_dir / "edge" / "gateway-1.yaml")
    made = CliRunner().invoke(
        cli, ["--state-dir", str(state_dir), "edge", "switches", "one", "--json"], catch_exceptions=False
    )
    found = {row["slots"][0] - FIRST_GPU: row for row in json.loads(made.output)["switches"]}
    assert len(found) == GPUS
    assert (found[FAILING]["outcome"], found[FAILING]["success"]) == ("rolled_back", False)
    assert set(found[PAUSING]["phases"]) == {"pause", "switch", "start"}
    assert found[CHECKPOINTING]["from_state"] == "training"
    table = CliRunner().invoke(cli, ["--state-dir", str(state_dir), "edge", "switches"], catch_exceptions=False)
    assert "rolled_back" in table.output


async def _into_every_phase(rig: Rig) -> None:
    """Each GPU in a phase of its own, with its operation under way."""
    ran = ("start", "succeeded")
    await rig.command((BATCH, [FAILING, STARTING, STOPPING, PAUSING]), (TRAINING, [CHECKPOINTING]))
    await until_settled(rig, [BATCH] * 4 + [TRAINING])
    await rig.command((TRAINING, [FAILING]))
    paused, stopped = ("pause", "succeeded"), ("stop", "succeeded")
    await rig.come_to(FAILING, ran, paused, stopped, ("start", "running"), step_s=2.0)
    rig.world.impose(faults.FALLEN_OFF_BUS, FAILING)
    await rig.come_to(FAILING, ran, paused, stopped, ("start", "failed"), ("stop", "running"), step_s=2.0)
    rig.world.lift([faults.FALLEN_OFF_BUS], [FAILING])
    back = (ran, paused, stopped, ("start", "failed"), stopped, ("start", "running"))
    await rig.come_to(FAILING, *back, step_s=2.0)
    await rig.command((BATCH, [CHECKPOINTING]), (TRAINING, [STARTING]))
    await rig.come_to(STARTING, ran, paused, stopped, ("start", "running"), step_s=1.0)
    await rig.command((TRAINING, [STOPPING]))
    await rig.come_to(STOPPING, ran, paused, ("stop", "running"))
    await rig.command((TRAINING, [PAUSING]))
    await rig.come_to(PAUSING, ran, ("pause", "running"))
    assert await rig.operations(CHECKPOINTING) == [ran, ("checkpoint", "running")]
    assert await rig.operations(FAILING) == list(back), "a roll-back, under way"


async def until_settled(rig: Rig, states) -> None:
    async with asyncio.timeout(120):
        while rig.world.site.commanded[FIRST_GPU : FIRST_GPU + len(states)].tolist() != states:
            rig.world.pass_time(20.0)
            await asyncio.sleep(0.01)


async def _all_over(rig: Rig) -> None:
    async with asyncio.timeout(120):
        while {bits(one.slots)[0] for one in await rig.switches() if one.stage == "over"} != {
            FIRST_GPU + gpu for gpu in range(GPUS)
        }:
            rig.world.pass_time(10.0)
            await asyncio.sleep(0.01)


async def _as_promised(rig: Rig, under_way: list[pb.Switch]) -> None:
    newest = {bits(one.slots)[0] - FIRST_GPU: one for one in under_way}
    assert {gpu: one.stage for gpu, one in newest.items()} == dict.fromkeys(range(1, 5), "forward") | {0: "roll_back"}
    over = {bits(one.slots)[0] - FIRST_GPU: one for one in await rig.switches() if one.stage == "over"}
    assert over[FAILING].outcome == "rolled_back"
    assert "start" in over[FAILING].problem
    assert {over[gpu].outcome for gpu in (STARTING, STOPPING, PAUSING, CHECKPOINTING)} == {"switched"}
    kinds = {gpu: [kind for kind, _ in await rig.operations(gpu)] for gpu in range(5)}
    assert kinds == {
        FAILING: ["start", "pause", "stop", "start", "stop", "start"],
        **{gpu: ["start", "pause", "stop", "start"] for gpu in (STARTING, STOPPING, PAUSING)},
        CHECKPOINTING: ["start", "checkpoint", "stop", "start"],
    }, "each phase once, by two processes"
    assert rig.world.site.commanded[FIRST_GPU : FIRST_GPU + 5].tolist() == [BATCH, TRAINING, TRAINING, TRAINING, BATCH]
