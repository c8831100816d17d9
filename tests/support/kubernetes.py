"""A Kubernetes cluster over the GPU nodes of a world, and our driver of it, over TLS and TCP; the test moves the clock."""

import asyncio
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from hcp_pipelines.devices.gpu_node.boards import Level
from hcp_pipelines.devices.gpu_node.fleet import GpuGroup
from hcp_pipelines.devices.kubernetes import mirror, slots, switching
from hcp_pipelines.devices.kubernetes.codec import Image
from hcp_pipelines.devices.kubernetes.site import KubernetesOptions, KubernetesSite
from hcp_pipelines.devices.kubernetes.slots import Cluster
from hcp_pipelines.devices.kubernetes.token import TokenFile
from hcp_pipelines.devices.kubernetes.transport import ApiTransport
from hcp_pipelines.devices.switches import SwitchBook
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.wire.certificates import issue, make_authority
from hcp_pipelines.wire.slots import encode_slots
from simulators.gpus.hardware import Hardware
from simulators.gpus.nodes import Nodes
from simulators.kubernetes.cluster import KubeHost
from simulators.kubernetes.server import KubernetesServer
from tests.support.gpus import FIRST_GPU, STATES, GpuWorld, WorldClock, gpu_world

TOKEN = "service-account-token-1"
POLL_MS = 100  # real: few need what exporters say, and asking them takes most of the time
LOAD_S = 60.0  # simulated: the longest that a pod takes to load


class Book(SwitchBook):
    """A book that remembers every word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.kept = [], []

    async def saved(self, saved):
        self.kept.append(saved)

    async def keep(self, switch):
        self.words.append(switch)
        await super().keep(switch)

    def outcomes(self):
        return [one.outcome for one in self.words if one.outcome is not None]


class KubeRig:
    """The driver of all nodes of a world; GPUs count from 0 here."""

    def __init__(self, world: GpuWorld, folder: Path, gpus: int, *, trusts="ca.crt", **options) -> None:
        self.world, self.folder, self.gpus, self.readings, self.book = world, folder, gpus, [], Book()
        nodes = Nodes(world.fleet, world.config.seed)
        addresses = [world.at(n) for n in range(-(-gpus // 8))]
        boards = {address: Hardware(nodes.at(address), world.transitions) for address in addresses}
        hosts = [KubeHost(f"node-{n}", a, min(8, gpus - 8 * n)) for n, a in enumerate(addresses)]

        def set_state(address, gpu, state):
            boards[address].set_state(state, [gpu], world.clock.now_s())

        self.server = KubernetesServer(
            hosts, folder / "api.crt", folder / "api.key", now_s=world.clock.now_s, set_state=set_state
        )
        self.server.api.tokens = {TOKEN}
        self.token_file = folder / "sa-token"
        self.token_file.write_text(TOKEN + "\n")
        self.token_file.chmod(0o600)
        levels = tuple(Level(DeviceState(state), watts) for state, watts in STATES)
        images = {DeviceState(s): Image("registry.local/work:1") for s, _ in STATES[1:]}
        made = KubernetesOptions(
            Cluster("one", "hcp", images), world.exporter_port, deadline_s=1.0, exporter_interval_s=1.0, **options
        )
        transport = ApiTransport(self.server.url, folder / trusts, TokenFile(self.token_file), 1.0, 40)
        group = GpuGroup(FIRST_GPU, gpus, tuple(addresses), levels)
        clock = WorldClock(world)
        self.site = KubernetesSite([group], FIRST_GPU + gpus, made, transport, clock, self.readings.append, self.book)

    def send(self, state, gpus=None, ref=None, work=None):
        own = np.array(sorted(range(self.gpus) if gpus is None else gpus), dtype=np.uint32) + FIRST_GPU
        return self.site.send_state(ref or uuid.uuid4(), 0, int(state), encode_slots(own.astype(np.uint32)), work)

    async def tell(self, state, gpus=None, **command):
        """(accepted, refused) GPUs; time passes meanwhile."""
        sent = self.send(state, gpus, **command)
        await self.until(sent.done, "it is told", 0.5)
        told = await self.site.finish_state(sent)
        return tuple((part.astype(int) - FIRST_GPU).tolist() for part in told)

    async def until(self, condition, what, step_s=4.0):
        """Let time pass until something holds."""
        async with asyncio.timeout(120):
            while not condition():
                self.world.pass_time(step_s)
                self.server.cluster.advance(self.world.clock.now_s())
                await asyncio.sleep(0.005)
        assert condition(), what

    async def settle(self, *states, step_s=4.0):
        """Let time pass until the boards do this, in any order."""
        await self.until(lambda: sorted(self.commanded()) == sorted(states), f"boards do {states}", step_s)

    async def run(self, state, gpus):
        """Have GPUs of a cluster at rest do something: nothing is switched, so that no deadline runs."""
        assert await self.tell(state, gpus) == (gpus, [])
        others = [DeviceState.IDLE] * (self.gpus - len(gpus))
        await self.settle(*[state] * len(gpus), *others, step_s=LOAD_S)

    def commanded(self):
        """What each board does; which is whose is the cluster's choice."""
        return self.world.site.commanded[FIRST_GPU : FIRST_GPU + self.gpus].tolist()

    def jobs(self):
        """(state, is suspended) of each Job, by slot."""
        found = {}
        for body in self.server.store.all("jobs"):
            labels = body["metadata"]["labels"]
            own = found.setdefault(int(labels["hcp.local/slot"]) - FIRST_GPU, [])
            own.append((int(labels["hcp.local/state"]), body["spec"]["suspend"]))
        return found

    def writes(self):
        return [method for method, _ in self.server.api.calls if method != "GET"]

    async def rounds(self, number):
        until = len(self.readings) + number + 1
        async with asyncio.timeout(120):
            while len(self.readings) < until:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def kube_rig(folder: Path, gpus: int = 8, *, is_connected=True, monkeypatch=None, **options):
    """A world, its cluster and the driver."""
    make_authority(folder)
    issue(folder, "api", hosts=["127.0.0.1"])
    if monkeypatch is not None:
        monkeypatch.setattr(mirror, "AGAIN_S", (0.01, 0.05))
        monkeypatch.setattr(slots, "AGAIN_S", (0.01, 0.05))
        monkeypatch.setattr(switching, "AGAIN_S", (0.01, 0.05))
    async with gpu_world(folder, gpus, collect_s=1.0) as world:
        rig = KubeRig(world, folder, gpus, **options)
        await rig.server.start()
        try:
            if is_connected:
                await rig.site.connect(POLL_MS)
            yield rig
        finally:
            await rig.site.close()
            await rig.server.stop()
