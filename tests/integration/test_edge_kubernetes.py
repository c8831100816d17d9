"""A gateway before a Kubernetes cluster: commands, settling by the exporters' power, and switches in its durable log."""

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from hcp_pipelines.devices.kubernetes.site import KubernetesSite
from hcp_pipelines.domain.clock import Anchor
from hcp_pipelines.wire import edge_v1_pb2 as pb
from tests.support.edge import Gateway, Owner, bits
from tests.support.gpus import FIRST_GPU, START_S, STATES
from tests.support.kubernetes import kube_rig

IDLE, BATCH, TRAINING = 1, 5, 6
GPUS = 8


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="k", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def changes_of(rig) -> dict:
    driver = {
        "kind": "kubernetes", "api": rig.server.url, "ca_file": str(rig.folder / "ca.crt"),
        "token_file": str(rig.token_file), "exporter_port": rig.world.exporter_port,
        "images": {5: {"image": "registry.local/work:1"}, 6: {"image": "registry.local/train:1"}},
        "poll_period_ms": 200, "exporter_interval_s": 0.2,
    }  # fmt: skip
    ladder = [{"state": s, "power_kw": watts / 1000, "settle_s": 400} for s, watts in STATES]
    group = {
        "group_id": "h100", "feeder_id": "f1", "first_slot": FIRST_GPU, "devices": GPUS, "pue": 1.1, "ladder": ladder,
        "addresses": [rig.world.at(0)],
    }  # fmt: skip
    return {"names": ("one",), "driver": driver, "groups": [group], "fallback": {}}


async def settled(rig, owner, command):
    """Let time pass until a command's devices are judged."""
    async with asyncio.timeout(120):
        while not (found := owner.settled(command.command_id)):
            rig.world.pass_time(2.0)
            await asyncio.sleep(0.02)
    return [slot - FIRST_GPU for slot in bits(found[0].settled)], bits(found[0].failed)


async def test_a_gateway_drives_a_cluster_and_writes_down_its_switches(folder):
    async with kube_rig(folder, GPUS, is_connected=False) as rig:
        anchor = Anchor(datetime.now(UTC), datetime.fromtimestamp(START_S, UTC), 1.0)
        (folder / "clock.json").write_text(anchor.dump())
        gateway = Gateway(folder, SimpleNamespace(anchor=anchor), **changes_of(rig))
        await gateway.start()
        owner = await Owner(gateway.address).own()
        try:
            assert type(gateway.facilities["one"].devices.site) is KubernetesSite
            first = owner.make((BATCH, [FIRST_GPU, FIRST_GPU + 1]))
            assert not (await owner.send(first)).refusal
            assert await settled(rig, owner, first) == ([0, 1], [])
            second = owner.make((TRAINING, [FIRST_GPU]))
            second.assignments[0].work.CopyFrom(pb.Work(workload_id="job-7", model="llama"))
            assert not (await owner.send(second)).refusal
            assert await settled(rig, owner, second) == ([0], [])
            assert sorted(rig.commanded()) == sorted([BATCH, TRAINING, *[IDLE] * 6]), (
                "not before, though it draws alike"
            )
            switches = [pb.Switch.FromString(e.payload) for e in await owner.log() if e.kind == "switch"]
            assert [one.stage for one in switches][:1] == ["forward"]
            assert (switches[0].work.workload_id, switches[0].from_state) == ("job-7", BATCH)
        finally:
            await owner.leave()
            await gateway.stop()
