"""Simulated miners and GPU nodes with their own protocols in a process of their own, on free ports of loopback."""

import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from benchmarks.common import ROOT
from hcp_pipelines.devices.miner.telemetry import MinerOptions
from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.modes import DeviceState

FIRMWARES = ("luxos", "whatsminer", "whatsminer-v3", "stock")  # as many miners of each
OFF, ON, IDLE = DeviceState.CURTAILED, DeviceState.MINING_FULL, DeviceState.IDLE
STATES = {OFF: (25.0, 0.0), ON: (3500.0, 200.0)}  # watts, TH/s
SPEED = 60.0  # as `hcp up` has it: what takes a device seconds of its own time is not what is measured
BEHIND = timedelta(days=2)  # simulated time never passes the wall clock: it would go at its pace from there
READY_WITHIN_S = 60.0
_NAMES = ("port_4028", "http_port", "v3_port", "exporter_port", "agent_port")


class DeviceWorld:
    """The simulated devices in a process of their own; miners first, then GPUs, in one site."""

    def __init__(
        self,
        folder: Path,
        miners: int,
        nodes: int,
        gpu_states: Mapping[DeviceState, float] = MappingProxyType({IDLE: 200.0}),
        token: str = "",
    ) -> None:
        """`gpu_states`: the GPUs' ladder, watts; `token`: of the nodes' agents, which without one take no writes."""
        self.each = miners // len(FIRMWARES)
        self.first_gpu, self.nodes, self._folder = self.each * len(FIRMWARES), nodes, folder
        self.ports = dict(zip(_NAMES, _free_ports(len(_NAMES)), strict=True))
        self._gpu_states, self._token_file = gpu_states, folder / "token"
        if token:
            self._token_file.write_text(token)
        now = SystemClock().now()
        anchor = Anchor(now, now - BEHIND, SPEED)
        self.clock = SystemClock(anchor)
        (folder / "clock.json").write_text(anchor.dump())
        (folder / "world.yaml").write_text(yaml.safe_dump(self._document()))
        self.process: subprocess.Popen[bytes] | None = None

    def _document(self) -> dict[str, Any]:
        paths = {n: str(self._folder / n) for n in ("bulk_socket", "ready_file", "transition_log", "exogenous_log")}
        miner_states = [{"state": int(s), "power_w": w, "hash_rate_th_per_s": r} for s, (w, r) in STATES.items()]
        groups: list[dict[str, Any]] = [
            {
                "group": name, "kind": "ASIC", "model": "M60S" if "whats" in name else "S21", "firmware": name,
                "first_slot": n * self.each, "devices": self.each, "states": miner_states,
            }
            for n, name in enumerate(FIRMWARES)
        ]  # fmt: skip
        gpu = {"group": "gpus", "kind": "GPU", "model": "H100 SXM5", "first_slot": self.first_gpu}
        ladder = [{"state": int(state), "power_w": watts} for state, watts in self._gpu_states.items()]
        groups.append(gpu | {"devices": 8 * self.nodes, "states": ladder})
        token = {"token_file": str(self._token_file)} if self._token_file.exists() else {}
        protocols = {
            "miners": {"enabled": True} | {name: self.ports[name] for name in _NAMES[:3]},
            "gpu_nodes": {"enabled": True, "collect_s": 1.0, **token} | {name: self.ports[name] for name in _NAMES[3:]},
        }
        site = {"site": "one", "settlement_point": "HB_NORTH", "groups": groups}
        anchor = str(self._folder / "clock.json")
        return {"version": 1, "anchor": anchor, **paths, "sites": [site], "protocols": protocols}

    def start(self) -> int:
        """Start it and wait until it answers; its pid.

        Raises:
            RuntimeError: it ended, or took too long; the message has the end of its log.
        """
        argv = [sys.executable, "-m", "simulators", "--config", str(self._folder / "world.yaml")]
        log, until_s = self._folder / "world.log", time.monotonic() + READY_WITHIN_S
        with log.open("wb") as file:
            self.process = subprocess.Popen(argv, cwd=ROOT, stderr=file)
        while not (self._folder / "ready_file").exists():
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"the world did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        return self.process.pid

    def end(self) -> None:
        """Stop it; nothing where it did not start."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def miner_options(self) -> MinerOptions:
        """How its miners are reached."""
        return MinerOptions(
            api_port=self.ports["port_4028"], web_port=self.ports["http_port"], v3_port=self.ports["v3_port"],
            deadline_s=30.0, command_deadline_s=60.0,
        )  # fmt: skip


def address_of(slot: int) -> str:
    """The address of a slot of the world's first site: docs/world.md has the rule.

    >>> address_of(0), address_of(254)
    ('127.16.0.1', '127.16.1.1')
    """
    return f"127.16.{slot // 254}.{slot % 254 + 1}"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
