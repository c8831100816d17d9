"""GPU nodes on real sockets: a world of one site, whose clock the test moves (or runs, with `speed`), and our driver."""

import asyncio
import contextlib
import os
import socket
import ssl
import time
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
from pydantic import SecretStr
from pyroaring import BitMap

from hcp_pipelines.devices.gpu_node.boards import Level
from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.fleet import GpuGroup, GpuNodeOptions
from hcp_pipelines.devices.gpu_node.site import GpuNodeSite
from hcp_pipelines.devices.gpu_node.transport import NodeTransport
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.wire.slots import encode_slots
from simulators.addresses import address_of
from simulators.clock import AnchorClock, ManualClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.gpus.server import GpuNodesServer
from simulators.settings import WorldConfig

START_S = 1_735_689_600.0
TOKEN = "not-a-secret-token"
FIRST_GPU = 40  # miners before, so that node addresses are not the site's first
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
STATES = [(1, 200.0), (4, 900.0), (5, 1250.0), (6, 1300.0)]


def plain_http() -> httpx.AsyncClient:
    """A client that loads no CAs, which takes longer than a test."""
    return httpx.AsyncClient(trust_env=False, verify=_NO_TLS, timeout=60)


def world_config(folder: Path, gpus: int, *, states=STATES, with_token=True, **own) -> WorldConfig:
    ladder = [{"state": s, "power_w": w, "ramp_up_s": 5, "ramp_down_s": 2} for s, w in states]
    miner = [{"state": 0, "power_w": 25.0}, {"state": 3, "power_w": 3500.0}]
    groups = [
        {"group": "s21", "kind": "ASIC", "model": "S21", "first_slot": 0, "devices": FIRST_GPU, "states": miner},
        {
            "group": "h100",
            "kind": "GPU",
            "model": "H100 SXM5",
            "first_slot": FIRST_GPU,
            "devices": gpus,
            "states": ladder,
        },
    ]
    if with_token:
        (folder / "token").write_text(TOKEN + "\n")
        own["token_file"] = folder / "token"
    paths = {n: folder / n for n in ("anchor", "bulk_socket", "ready_file", "transition_log", "exogenous_log")}
    return WorldConfig.model_validate(
        {
            "version": 1,
            "seed": 7,
            **paths,
            "sites": [{"site": "one", "settlement_point": "HB_NORTH", "groups": groups}],
            "protocols": {"gpu_nodes": {"enabled": True, "exporter_port": 0, "agent_port": 0, **own}},
        }
    )


class GpuWorld:
    """One site of GPU nodes; `at(n)` is node n's address."""

    def __init__(self, folder: Path, gpus: int = 16, *, within_s: float = 10.0, speed: float = 0.0, **own) -> None:
        self.clock = AnchorClock(time.time(), START_S, speed) if speed else ManualClock(START_S, speed=60.0)
        self.config = world_config(folder, gpus, **own)
        self.fleet = Fleet(self.config.sites, self.config.seed, START_S)
        self.site = self.fleet.sites["one"]
        self.transitions = TransitionLog(folder / "transitions.jsonl", self.fleet, self.clock)
        self.server = GpuNodesServer(self.config, self.fleet, self.transitions, self.clock, within_s)
        self.exporter_port, self.agent_port = self.server.ports

    def at(self, node: int = 0) -> str:
        return address_of(0, FIRST_GPU + 8 * node)

    def pass_time(self, seconds: float) -> None:
        self.clock.at_s += seconds

    def impose(self, kind: str, gpu: int, node: int = 0, **more) -> None:
        """A fault on one GPU from now on."""
        self.site.impose(kind, BitMap([FIRST_GPU + 8 * node + gpu]), self.clock.at_s, **more)

    def lift(self, kinds, gpus, node: int = 0) -> None:
        """Mend GPUs."""
        self.site.lift(kinds, BitMap([FIRST_GPU + 8 * node + gpu for gpu in gpus]), self.clock.at_s)

    @asynccontextmanager
    async def driver(self, node: int = 0, token: str | None = TOKEN, within_s: float = 5.0):
        transport = NodeTransport(
            self.at(node),
            exporter_port=self.exporter_port,
            agent_port=self.agent_port,
            token=SecretStr(token) if token else None,
            within_s=within_s,
        )
        one = GpuNode(transport, self.at(node))
        try:
            yield one
        finally:
            await one.close()

    async def metrics(self, node: int = 0) -> httpx.Response:
        async with plain_http() as http:
            return await http.get(f"http://{self.at(node)}:{self.exporter_port}/metrics")

    async def post(self, path: str, body: dict | bytes, *, token: str | None = TOKEN, node: int = 0) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        async with plain_http() as http:
            return await http.post(f"http://{self.at(node)}:{self.agent_port}{path}", headers=headers, **content)


@asynccontextmanager
async def gpu_world(folder: Path, gpus: int = 16, **own):
    world = GpuWorld(folder, gpus, **own)
    await world.server.start()
    try:
        yield world
    finally:
        await world.server.stop()
        os.close(world.transitions._fd)


class WorldClock(SystemClock):
    """The world's simulated time; real time otherwise."""

    def __init__(self, world: GpuWorld) -> None:
        super().__init__()
        self._world = world

    def now(self):
        return datetime.fromtimestamp(self._world.clock.now_s(), tz=UTC)


class GpuRig:
    """The driver of all nodes of a world; slots of GPUs count from 0 here."""

    def __init__(self, world: GpuWorld, folder: Path, gpus: int, *, token=TOKEN, gpus_each=1, **options) -> None:
        self.world, self.gpus, self.readings = world, gpus, []
        levels = tuple(Level(DeviceState(state), watts) for state, watts in STATES)
        group = GpuGroup(FIRST_GPU, gpus, tuple(world.at(n) for n in range(-(-gpus // 8))), levels)
        spec = WorkloadSpec(gpus_each=gpus_each)
        made = GpuNodeOptions(
            world.exporter_port, world.agent_port, deadline_s=1.0, exporter_interval_s=world.config.protocols.gpu_nodes.collect_s,
            token=SecretStr(token) if token else None, workloads={DeviceState(s): spec for s, _ in STATES[1:]}, **options,
        )  # fmt: skip
        self.site = GpuNodeSite([group], FIRST_GPU + gpus, made, folder, WorldClock(world), self.readings.append)

    def send(self, state, gpus=None, ref=None, assignment=0):
        """Hand a state over; None: all GPUs."""
        slots = np.array(sorted(range(self.gpus) if gpus is None else gpus), dtype=np.int64) + FIRST_GPU
        return self.site.send_state(ref or uuid.uuid4(), assignment, int(state), encode_slots(slots.astype(np.uint32)))

    async def tell(self, state, gpus=None, **command):
        """(accepted, refused) GPUs."""
        async with asyncio.timeout(120):
            told = await self.site.finish_state(self.send(state, gpus, **command))
        return tuple((slots.astype(int) - FIRST_GPU).tolist() for slots in told)

    async def run(self, state, gpus=None, after_s=240.0):
        """Tell a state and let the time of the longest load pass."""
        accepted, refused = await self.tell(state, gpus)
        assert refused == []
        self.world.pass_time(after_s)
        await self.rounds(2)
        self.world.pass_time(60)
        await self.rounds(2)
        return accepted

    async def rounds(self, number):
        """Wait for so many readings that begin from now on."""
        until = len(self.readings) + number + 1
        async with asyncio.timeout(120):
            while len(self.readings) < until:
                await asyncio.sleep(0.01)

    @property
    def power_w(self):
        return self.readings[-1].values[FIRST_GPU:]

    def commanded(self):
        return self.world.site.commanded[FIRST_GPU : FIRST_GPU + self.gpus].tolist()

    async def operations(self, node=0):
        """Kinds of the node's accepted writes, oldest first."""
        async with plain_http() as http:
            reply = await http.get(f"http://{self.world.at(node)}:{self.world.agent_port}/v1/operations")
        return [one["kind"] for one in reversed(reply.json()["operations"])]


@asynccontextmanager
async def gpu_rig(folder: Path, gpus: int = 12, *, period_ms=5, world_options=None, **options):
    """A world on a clock that the test moves, and the driver of its nodes, connected."""
    async with gpu_world(folder, gpus, **{"collect_s": 1.0} | (world_options or {})) as world:
        rig = GpuRig(world, folder / "edge", gpus, **options)
        await rig.site.connect(period_ms)
        try:
            yield rig
        finally:
            await rig.site.close()


def fresh_id() -> str:
    return str(uuid.uuid4())


def talk(address: str, port: int, data: bytes, *, half_close=False, timeout_s=60.0) -> bytes:
    """Send bytes and read until the peer closes; b'' where it only closes or resets. For `asyncio.to_thread`."""
    got = bytearray()
    gone = contextlib.suppress(ConnectionResetError, BrokenPipeError)
    with gone, socket.create_connection((address, port), timeout=timeout_s) as peer:
        peer.sendall(data)
        if half_close:
            peer.shutdown(socket.SHUT_WR)
        while chunk := peer.recv(65536):
            got += chunk
    return bytes(got)
