"""A gateway with the simulated world behind it and an owner before it, all over unix sockets.

World and gateway run in the test's own event loop; `GatewayProcess` is the real process, for what has to be killed.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import yaml
from pyroaring import BitMap

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.edge.__main__ import OPTIONS
from hcp_pipelines.edge.config import EdgeConfig
from hcp_pipelines.edge.durable_log import DurableLog, open_ahead, take_over
from hcp_pipelines.edge.facility import FacilityGateway
from hcp_pipelines.edge.operators import Operators
from hcp_pipelines.edge.service import EdgeService
from hcp_pipelines.edge.telemetry.sampler import new_worker, samplers_of
from hcp_pipelines.edge.telemetry.service import TelemetryService
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire import edge_v1_pb2_grpc
from hcp_pipelines.wire.slots import encode_slots
from simulators.bulk import BulkServer
from simulators.clock import AnchorClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.settings import SiteConfig
from tests.support.waiting import until

__all__ = ["until"]  # most who take a gateway wait for it
ROOT = Path(__file__).resolve().parents[2]
OFF, ECO, FULL, IDLE, BATCH = 0, 2, 3, 1, 5
MINERS, GPUS, FIRST_GPU = 100, 20, 110
SLOTS = FIRST_GPU + GPUS
PUE = 1.25
LADDERS = {"asic": ((OFF, 0.025, 20), (ECO, 2.8, 30), (FULL, 3.5, 60)), "gpu": ((IDLE, 0.45, 10), (BATCH, 1.3, 10))}
GROUPS = (("asic", "ASIC", 0, MINERS), ("gpu", "GPU", FIRST_GPU, GPUS))


def site(name):
    groups = [
        {
            "group": group, "kind": kind, "model": group, "first_slot": first, "devices": devices,
            "states": [{"state": s, "power_w": kw * 1000, "ramp_up_s": 30, "ramp_down_s": 10} for s, kw, _ in LADDERS[group]],
        }
        for group, kind, first, devices in GROUPS
    ]  # fmt: skip
    return SiteConfig.model_validate({"site": name, "settlement_point": "HB_NORTH", "pue": PUE, "groups": groups})


class World:
    """The devices of some sites behind the bulk channel; `kill` forgets what was not in the devices' log."""

    def __init__(self, folder: Path, sites=("one", "two"), speed=600.0) -> None:
        self.folder, self.sites = folder, sites
        real_at = SystemClock().real_now()
        self.anchor = Anchor(real_at, real_at - timedelta(days=30), speed)
        (folder / "clock.json").write_text(self.anchor.dump())
        self.clock = AnchorClock.load(folder / "clock.json")

    async def start(self) -> None:
        self.fleet = Fleet([site(name) for name in self.sites], 7, self.clock.now_s())
        self.transitions = TransitionLog(self.folder / "transitions.jsonl", self.fleet, self.clock)
        self._server = BulkServer(self.folder / "b.sock", self.fleet, self.transitions, self.clock)
        await self._server.start()

    async def kill(self) -> None:
        await self._server.stop()
        os.close(self.transitions._fd)

    def log(self, name="one") -> list[dict]:
        path = self.folder / "transitions.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["site"] == name]

    def switched(self, ref, name="one") -> list[int]:
        """Every slot that a command changed, as often as it was changed."""
        lines = [line for line in self.log(name) if line["ref"] == ref]
        return sorted(slot for line in lines for slot in BitMap.deserialize(base64.b64decode(line["slots"])))

    def clock_now(self):
        return SystemClock(self.anchor).now()

    def commanded(self, name="one"):
        return self.fleet.sites[name].commanded


def edge_document(folder: Path, names=("one", "two"), gateway="edge", **changes) -> dict:
    facilities = [
        {
            "facility_id": name, "generation": 1,
            "driver": {"kind": "bulk", "address": f"unix:{folder / 'b.sock'}", "site": name},
            "groups": [
                {
                    "group_id": group, "feeder_id": "f1", "first_slot": first, "devices": devices, "pue": PUE,
                    "ladder": [{"state": s, "power_kw": kw, "settle_s": settle} for s, kw, settle in LADDERS[group]],
                }
                for group, _, first, devices in GROUPS
            ],
            "fallback": {"asic": OFF},
        } | changes
        for name in names
    ]  # fmt: skip
    return {
        "version": 1, "gateway": gateway, "listen": f"unix:{folder / 'e.sock'}", "state_dir": str(folder / "edge"),
        "simulated": True, "anchor": str(folder / "clock.json"), "power_period_ms": 100, "facilities": facilities,
    }  # fmt: skip


class Gateway:
    """The gateway's service in this loop."""

    def __init__(self, folder: Path, world: World, **changes) -> None:
        self.config = EdgeConfig.model_validate(edge_document(folder, **changes))
        self.address, self._clock = self.config.listen, SystemClock(world.anchor)

    async def start(self, *, is_connected=True) -> None:
        self._stop = asyncio.Event()
        state_dir, name = self.config.state_dir, self.config.gateway
        self._ahead = open_ahead(state_dir, name)
        self.logs = {f.facility_id: DurableLog(state_dir / f.facility_id, self._ahead) for f in self.config.facilities}
        await take_over(state_dir, name, self._ahead, self.logs.values())
        self.facilities = {
            f.facility_id: FacilityGateway(f, self.logs[f.facility_id], self._clock, self.config.power_period_ms)
            for f in self.config.facilities
        }
        accounts = self.config.operators_file
        operators = Operators(accounts, self._clock) if accounts is not None else None
        self._server = grpc.aio.server(options=OPTIONS)
        edge_v1_pb2_grpc.add_EdgeGatewayServicer_to_server(
            EdgeService(self.facilities, operators=operators), self._server
        )
        self._worker = new_worker()
        self.samplers = samplers_of(self.config, self.facilities, self._clock, self._worker)
        TelemetryService(self.samplers, self._clock).add_to(self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()
        self._running = [asyncio.create_task(f.run(self._stop)) for f in self.facilities.values()]
        self._sampling = [asyncio.create_task(sampler.run()) for sampler in self.samplers.values()]
        if is_connected:
            await until(lambda: all(not f.problem for f in self.facilities.values()), "gateway and site are connected")

    async def stop(self) -> None:
        self._stop.set()
        for task in self._sampling:
            task.cancel()
        await self._server.stop(0.05)
        await asyncio.gather(*self._running)
        self._worker.shutdown()
        for facility in self.facilities.values():
            await facility.close()
        await self._ahead.close()
        Path(self.address.removeprefix("unix:")).unlink(missing_ok=True)


class GatewayProcess:
    """`python -m hcp_pipelines.edge`."""

    def __init__(self, folder: Path, **changes) -> None:
        self.folder, self.address = folder, f"unix:{folder / 'e.sock'}"
        (folder / "edge.yaml").write_text(yaml.safe_dump(edge_document(folder, **changes)))
        self.process: subprocess.Popen | None = None

    def spawn(self) -> subprocess.Popen:
        env = {k: v for k, v in os.environ.items() if not k.startswith("HCP_")} | {
            "HCP_STATE_DIR": str(self.folder / "hcp")
        }
        command = [sys.executable, "-m", "hcp_pipelines.edge", "--config", str(self.folder / "edge.yaml")]
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    async def start(self) -> None:
        ready = self.folder / "hcp" / "run" / "edge.json"
        ready.unlink(missing_ok=True)
        self.process = self.spawn()
        await until(ready.exists, "the gateway process is ready")

    def end(self, number=signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


class Owner:
    """An owner's session with one facility; what comes in is kept by kind."""

    def __init__(self, address: str, facility="one", name="alloc-a", epoch=1) -> None:
        self.facility, self.name, self.epoch = facility, name, epoch
        self.channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self.stub = edge_v1_pb2_grpc.EdgeGatewayStub(self.channel)
        self.call = None
        self.messages: list[pb.GatewayMessage] = []

    async def announce(self, **changes) -> pb.AnnounceReply:
        fields = {
            "facility_id": self.facility,
            "owner": self.name,
            "epoch": self.epoch,
            "generation": 1,
            "lease_epoch": 100,
        }
        self.call = self.stub.Session()
        await self.call.write(pb.OwnerMessage(announce=pb.Announce(**fields | changes)))
        reply = (await self.call.read()).announce_reply
        if reply.accepted:
            self._reading = asyncio.create_task(self._read())
            await until(lambda: self.of("local_event") and self.of("local_event")[-1].kind == "resumed", "resumed")
        return reply

    async def own(self, **changes) -> "Owner":
        reply = await self.announce(**changes)
        assert reply.accepted, reply.refusal
        return self

    def make(self, *assignments, command_id=None, **changes) -> pb.Command:
        """`assignments` are (state, slots); slots may be raw bytes."""
        fields = {
            "command_id": command_id or str(uuid.uuid4()), "facility_id": self.facility, "epoch": self.epoch,
            "generation": 1, "reason": "economics",
        }  # fmt: skip
        command = pb.Command(**fields | changes)
        for n, (state, slots) in enumerate(assignments):
            raw = slots if isinstance(slots, bytes) else encode_slots(np.array(list(slots), dtype=np.uint32))
            command.assignments.add(index=n, state=state, slots=raw)
        return command

    async def send(self, command: pb.Command) -> pb.Ack:
        before = len(self.of("ack"))
        await self.call.write(pb.OwnerMessage(command=command))
        await until(lambda: len(self.of("ack")) > before, "ack")
        return self.of("ack")[-1]

    def of(self, kind: str) -> list:
        return [getattr(m, kind) for m in self.messages if m.WhichOneof("body") == kind]

    def settled(self, command_id: str) -> list[pb.Settled]:
        return [s for s in self.of("settled") if s.command_id == command_id]

    async def state(self) -> pb.FacilityState:
        return await self.stub.Read(pb.ReadRequest(facility_id=self.facility))

    async def log(self, after_seq=0, limit=0) -> list[pb.LogEntry]:
        request = pb.ReadLogRequest(facility_id=self.facility, after_seq=after_seq, limit=limit)
        return [entry async for entry in self.stub.ReadLog(request)]

    async def ended(self) -> None:
        """Wait until the gateway has ended the stream."""
        await asyncio.wait_for(self._reading, 60)

    async def leave(self) -> None:
        if self.call is not None:
            self.call.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError, AttributeError):
            await self._reading
        await self.channel.close()

    async def _read(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (message := await self.call.read()) is not grpc.aio.EOF:
                self.messages.append(message)


def bits(payload: bytes) -> list[int]:
    return list(BitMap.deserialize(payload)) if payload else []


class OwnTime:
    """Seconds since it was made, without those in which this process would have computed and others had the processors."""

    def __init__(self) -> None:
        self._began_s, self._waited_s = time.monotonic(), _waited_s()

    def end_s(self) -> float:
        return time.monotonic() - self._began_s - max(_waited_s() - self._waited_s, 0.0)


def _waited_s() -> float:
    """For how long threads of this process were ready and had no processor, as Linux counts it; elsewhere nothing is forgiven."""
    waited_ns = 0
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has ended
            waited_ns += int(thread.read_text().split()[1])
    return waited_ns / 1e9
