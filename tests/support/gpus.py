"""GPU nodes on real sockets: a world of one site, whose clock the test moves (or runs, with `speed`), and our driver."""

import contextlib
import os
import socket
import ssl
import time
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from pydantic import SecretStr
from pyroaring import BitMap

from hcp_pipelines.devices.gpu_node.device import GpuNode
from hcp_pipelines.devices.gpu_node.transport import NodeTransport
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
    return httpx.AsyncClient(trust_env=False, verify=_NO_TLS, timeout=20)


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


def fresh_id() -> str:
    return str(uuid.uuid4())


def talk(address: str, port: int, data: bytes, *, half_close=False, timeout_s=5.0) -> bytes:
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
