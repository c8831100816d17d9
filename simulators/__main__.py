"""`python -m simulators --config world.yaml`: the whole outside world in one process.

Starts the parts in order, writes the ready file, stops on SIGTERM or SIGINT or when its parent dies. No logic here.
"""

import argparse
import asyncio
import ctypes
import json
import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from simulators.bulk import BulkServer
from simulators.clock import AnchorClock, iso
from simulators.durability import TransitionLog
from simulators.embedded_http import EmbeddedServer
from simulators.exogenous import ExogenousLog
from simulators.fault_log import FaultLog
from simulators.fleet import Fleet
from simulators.http import Services
from simulators.listeners import bound
from simulators.patience import PatientHttp
from simulators.power_plant.attach import Plants
from simulators.power_plant.frequency import GridFrequency
from simulators.protocols import Protocols
from simulators.series import World
from simulators.settings import WorldConfig, WorldConfigError, load_config

_FILES_MAX = 65_536
_PR_SET_PDEATHSIG = 1
_PERIOD_S = 1.0

log = logging.getLogger("world")


class _JsonLines(logging.Formatter):
    """One JSON object a log line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {"level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps({"timestamp": iso(record.created), **entry})


class _Process:
    """The parts of a running world."""

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        self._clock = AnchorClock.load(config.anchor)
        self._world = World.load(config)
        faults = FaultLog.below(config.replay_dir) if config.replay_dir else None
        now_s, script, weather = self._clock.now_s(), self._world.script, self._world.weather
        self._fleet = Fleet(config.sites, config.seed, now_s, script, weather, faults)
        self._transitions = TransitionLog(config.transition_log, self._fleet, self._clock)
        frequency = GridFrequency(config.seed, self._world.script)
        plant_log = config.transition_log.with_name("plant.jsonl")
        self._plants = Plants(self._fleet, plant_log, frequency, self._transitions.touch)
        self._exogenous = ExogenousLog(
            config.exogenous_log, self._world, self._clock.simulated_at_s, self._fleet.schedules
        )
        self._bulk = BulkServer(config.bulk_socket, self._fleet, self._transitions, self._clock)
        self._protocols = Protocols(config, self._fleet, self._transitions, self._clock, self._world.latest_blocks)
        self._problem = ""
        self._devices = self._fleet.devices
        self._stop = asyncio.Event()

    def problem(self) -> str:
        """Why the world is unhealthy; empty when it is well."""
        return self._problem

    def devices(self) -> int:
        """Number of simulated devices."""
        return self._devices

    async def run(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        server = EmbeddedServer(
            uvicorn.Config(
                Services(self._world, self._clock, self).app(),
                log_config=None,
                access_log=False,
                lifespan="off",
                http=PatientHttp,
                limit_concurrency=256,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=2,
            )
        )
        await self._transitions.save(always=True)  # from here on the log tells when things happened
        listener = _listen(self._config.http.host, self._config.http.port)
        await self._protocols.start()
        await self._bulk.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            upkeep = tasks.create_task(self._keep_up())
            await server.is_up.wait()
            self._write_ready(listener.getsockname()[1])
            await self._stop.wait()
            server.should_exit = True
            upkeep.cancel()
            await self._bulk.stop()
            await self._protocols.stop()
        await self._transitions.close()
        self._plants.close()
        self._config.ready_file.unlink(missing_ok=True)
        log.info("the world has stopped")

    async def _keep_up(self) -> None:
        """Each second: what ends by itself, the snapshot of changed devices, and the exogenous entries that have come due."""
        is_more_due = False
        while True:
            try:
                await self._fleet.catch_up(self._clock.now_s())
                await self._transitions.save()
                is_more_due = await asyncio.to_thread(self._exogenous.write_until, self._clock.now_s())
                self._problem = ""
            except OSError as error:
                self._problem = f"cannot write the world's files: {error}"
                log.error("%s", self._problem)
            await asyncio.sleep(0.01 if is_more_due else _PERIOD_S)

    def _write_ready(self, port: int) -> None:
        host = self._config.http.host
        http = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        ready = {
            "name": "world",
            "pid": os.getpid(),
            "urls": {"http": http, "bulk": f"unix:{self._config.bulk_socket}"} | self._protocols.urls,
            "ready_at": iso(self._clock.real_s()),
        }
        path = self._config.ready_file
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(ready))
        fresh.replace(path)
        log.info("the world is ready: %s devices, %s", self._devices, http)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return bound(host, port)
    except OSError as error:
        message = f"http port {port} on {host} can't be bound ({error.strerror}); take another or 0 for any"
        raise WorldConfigError(message) from error


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies; leave at once if it already has."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(1)


def _allow_files() -> None:
    """As many open files as this process may have, within reason: each device's connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> int:
    """Run the world; 0 stopped, 1 failed, 2 wrong configuration."""
    parser = argparse.ArgumentParser(prog="python -m simulators", description="The simulated outside world.")
    parser.add_argument("--config", type=Path, required=True, help="world.yaml (docs/world.md)")
    parser.add_argument("--print-start", action="store_true", help="print the instant the world begins at, and exit")
    arguments = parser.parse_args()
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        config = load_config(arguments.config)
        if arguments.print_start:
            sys.stdout.write(iso(World.load(config).start_s()) + "\n")
            return 0
        _die_with_parent()
        _allow_files()
        asyncio.run(_run(config))
    except WorldConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


async def _run(config: WorldConfig) -> None:
    await _Process(config).run()


if __name__ == "__main__":
    sys.exit(main())
