"""A whole platform as a user starts it: `hcp up` in a process of its own, on a state directory of its own."""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyroaring

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.guardian import session_members

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RunningPlatform:
    """Handle on `hcp up`."""

    def __init__(self, state_dir: Path, **environment: str) -> None:
        self.state_dir = state_dir
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("HCP_")}
        self.env |= {"HCP_STATE_DIR": str(state_dir), "HCP_DAGSTER_PORT": str(free_port())} | environment
        self.settings = Settings(
            state_dir=state_dir, dagster_port=int(self.env["HCP_DAGSTER_PORT"]), world=self.env.get("HCP_WORLD", "sim")
        )
        self.process: subprocess.Popen | None = None
        self.output = state_dir.parent / f"{state_dir.name}-up.log"

    def start(self, *arguments: str) -> None:
        with self.output.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hcp_pipelines.cli.main", "up", *arguments],
                cwd=ROOT, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def hcp(self, *arguments: str) -> subprocess.CompletedProcess:
        argv = [sys.executable, "-m", "hcp_pipelines.cli.main", *arguments]
        return subprocess.run(argv, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=120)

    def status(self) -> dict:
        try:
            return json.loads((self.state_dir / "run" / "status.json").read_text())
        except (OSError, ValueError):
            return {"ready": False, "processes": []}

    def row(self, name: str) -> dict:
        return next(
            (p for p in self.status()["processes"] if p["name"] == name), {"pid": None, "healthy": False, "restarts": 0}
        )

    def wait(self, condition, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process and self.process.poll() is not None:
                raise AssertionError(f"hcp up ended with {self.process.returncode}: {self.tail()}")
            with contextlib.suppress(psycopg.Error, OSError):
                if condition():
                    return
            time.sleep(0.25)
        raise AssertionError(
            f"{what}: not within {seconds} s\n{json.dumps(self.status(), indent=1)[:3000]}\n{self.tail()}"
        )

    def wait_ready(self, seconds: float = 180) -> None:
        self.wait(lambda: self.status()["ready"], seconds, "everything up and healthy")

    def tail(self) -> str:
        return self.output.read_text(errors="replace")[-2000:] if self.output.exists() else ""

    def query(self, sql: str, *parameters: object) -> list[tuple]:
        with connect(self.settings, Role.API) as connection:
            return connection.execute(sql, parameters).fetchall()

    def kill9(self, name: str) -> None:
        """kill -9, then wait until the supervisor has brought it back and it says that it is well."""
        before = self.row(name)
        assert before["pid"], f"{name} does not run"
        os.kill(before["pid"], signal.SIGKILL)
        self.wait(
            lambda: self.row(name)["restarts"] > before["restarts"] and self.row(name)["healthy"],
            120,
            f"{name} back after kill -9",
        )

    def sessions(self) -> set[int]:
        return {p["pid"] for p in self.status()["processes"] if p["pid"]} | {self.process.pid if self.process else 0}

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def destroy(self) -> None:
        """End it whatever its state, so that a failed test leaves nothing behind."""
        if self.process is None:
            return
        sessions = self.sessions()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        deadline = time.monotonic() + 30
        while session_members(sessions) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in session_members(sessions):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running_platform(state_dir: Path, *arguments: str, **environment: str) -> Iterator[RunningPlatform]:
    platform = RunningPlatform(state_dir, **environment)
    platform.start(*arguments)
    try:
        yield platform
    finally:
        platform.destroy()


def transitions(path: Path) -> list[dict]:
    """The devices' own log, whole lines only."""
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def judge(platform: RunningPlatform) -> dict[str, int]:
    """Lost and doubled switches, judged by the devices' own log against what the gateways acknowledged.

    Doubled: a slot changed twice under the same (command, assignment). Lost: the last acknowledged command of a slot
    asked for a state that the slot's last transition did not reach. Shares no code with allocator or gateway.
    """
    changes: dict[tuple[str, int], list[int]] = defaultdict(list)
    device_state: dict[tuple[str, int], int] = {}
    for entry in transitions(platform.state_dir / "world" / "transitions.jsonl"):
        slots = list(pyroaring.BitMap.deserialize(base64.b64decode(entry["slots"])))
        command = str(entry["ref"]).replace("-", "")
        changes[(command, entry["assignment"])] += [(entry["site"], s) for s in slots]  # type: ignore[misc]
        device_state |= {(entry["site"], slot): entry["state"] for slot in slots}
    doubled = sum(len(slots) - len(set(slots)) for slots in changes.values())
    wanted: dict[tuple[str, int], int] = {}
    rows = platform.query(
        """select c.facility_id, c.slots, c.to_state, a.refused, a.deferred from switch_journal c
           join switch_journal a on (a.command_id, a.assignment, a.event) = (c.command_id, c.assignment, 'acked')
           where c.event = 'commanded' order by c.id"""
    )
    for facility, slots, state, refused, deferred in rows:
        if refused or deferred:
            continue
        wanted |= {(facility, slot): state for slot in pyroaring.BitMap.deserialize(bytes(slots))}
    lost = sum(1 for key, state in wanted.items() if device_state.get(key, 0) != state)
    return {"lost": lost, "doubled": doubled, "commands": len(rows), "devices": len(wanted)}
