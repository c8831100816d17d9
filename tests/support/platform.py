"""A whole platform as a user starts it: `hcp up` in a process of its own, on a state directory of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psycopg

from benchmarks.parts import verdict
from benchmarks.parts.whole_platform import free_port
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.query import run_select
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.guardian import session_members

ROOT = Path(__file__).resolve().parents[2]


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
        self._asking, self._connection = threading.Lock(), None

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
        """What the supervisor wrote; an earlier one's words are not taken for this one's."""
        try:
            status = json.loads((self.state_dir / "run" / "status.json").read_text())
        except (OSError, ValueError):
            status = {}
        is_ours = self.process is not None and status.get("supervisor_pid") == self.process.pid
        return status if is_ours else {"ready": False, "processes": []}

    def row(self, name: str) -> dict:
        return next(
            (p for p in self.status()["processes"] if p["name"] == name), {"pid": None, "healthy": False, "restarts": 0}
        )

    def wait(self, condition, seconds: float, what: str, every_s: float = 0.25) -> None:
        """Until it is so. A condition that starts a process says how often: it takes CPU from what it waits for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process and self.process.poll() is not None:
                raise AssertionError(f"hcp up ended with {self.process.returncode}: {self.tail()}")
            with contextlib.suppress(psycopg.Error, StorageError, OSError):
                if condition():
                    return
            time.sleep(every_s)
        raise AssertionError(
            f"{what}: not within {seconds} s\n{json.dumps(self.status(), indent=1)[:3000]}\n{self.tail()}"
        )

    def wait_ready(self, seconds: float = 180) -> None:
        self.wait(lambda: self.status()["ready"], seconds, "everything up and healthy")

    def tail(self) -> str:
        return self.output.read_text(errors="replace")[-2000:] if self.output.exists() else ""

    def query(self, sql: str, *parameters: object) -> list[tuple]:
        """Rows of Postgres, on one connection: a fresh one for each look took a tenth of a core from what was waited for."""
        with self._asking:
            try:
                return self._connected().execute(sql, parameters).fetchall()
            except psycopg.OperationalError:  # of a server that has been killed since
                self._disconnect()
                return self._connected().execute(sql, parameters).fetchall()

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = connect(self.settings, Role.OPERATOR)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def lake(self, sql: str) -> list[tuple]:
        """Rows of the lake, read in this process: to wait by `hcp sql` costs a process of a second's CPU each time.

        Raises:
            StorageError: there is no such table yet.
        """
        return run_select(self.settings, sql).rows

    def kill9(self, name: str) -> None:
        """kill -9, then wait until the supervisor has brought it back and it says that it is well."""
        before = self.row(name)
        assert before["pid"], f"{name} does not run"
        with contextlib.suppress(ProcessLookupError):  # it has just ended, and nobody has noticed yet
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
        """End it whatever its state, so that a failed test leaves nothing behind.

        Killed: its guardian then ends the others, and waits for no run of Dagster's that is under way, as Ctrl-C does for 20 s.
        """
        self._disconnect()
        if self.process is None:
            return
        sessions = self.sessions()
        if self.process.poll() is None:
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


def judge(platform: RunningPlatform) -> dict[str, int]:
    """Lost and doubled switches of everything that the platform has done so far (benchmarks/parts/verdict.py)."""
    return asdict(verdict.judge(platform.settings))
