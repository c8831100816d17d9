"""The warm fork server: `python -m hcp_pipelines.orchestration.run_server`. A run starts in milliseconds, not in 8 s.

The parent has everything imported that a run of the control location needs, and forks a child a run. It is single
threaded and *uses* neither polars nor any other library that keeps threads: a child forked after that would hang.
What is asked of it is in `run_launcher.py`; what a run does is Dagster's work.
"""

import contextlib
import importlib
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.orchestration.run_child import run_in_child
from hcp_pipelines.orchestration.sockets import read_line, send_line, socket_path
from hcp_pipelines.settings import Settings

WARM_MODULES = ("hcp_pipelines.definitions.control", "polars", "psycopg", "dagster_postgres", "dagster._grpc.impl")
POLL_S = 0.5
REMEMBERED_RUNS = 500
NAME = "run-server"
_log = logging.getLogger("hcp.run_server")


@dataclass
class Runs:
    """Children by run, and how the last ones ended."""

    pids: dict[str, int] = field(default_factory=dict)
    exit_codes: dict[str, int] = field(default_factory=dict)

    def note_exit(self, pid: int, code: int) -> str | None:
        """The run whose child this was; None for a stranger."""
        run_id = next((r for r, p in self.pids.items() if p == pid), None)
        if run_id is None:
            return None
        del self.pids[run_id]
        self.exit_codes[run_id] = code
        while len(self.exit_codes) > REMEMBERED_RUNS:
            del self.exit_codes[next(iter(self.exit_codes))]
        return run_id

    def status(self, run_id: str) -> dict[str, Any]:
        """`running` with its pid, `exited` with its code, or `unknown`."""
        if run_id in self.pids:
            return {"status": "running", "pid": self.pids[run_id]}
        if run_id in self.exit_codes:
            return {"status": "exited", "code": self.exit_codes[run_id]}
        return {"status": "unknown"}


class RunServer:
    """Answers `ping`, `launch`, `status` and `terminate` on a unix socket."""

    def __init__(self, path: Path, instance: dg.DagsterInstance) -> None:
        self._path = path
        self._instance = instance
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.runs = Runs()
        self._stopping = False

    def serve(self) -> None:
        """Serve until SIGTERM; then stop the children."""
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        self._path.chmod(0o600)
        self._listener.listen(64)
        with _signals_wake_select(self._request_stop) as wake_fd:
            while not self._stopping:
                ready, _, _ = select.select([self._listener, wake_fd], [], [], POLL_S)
                if wake_fd in ready:
                    os.read(wake_fd, 4096)
                self._reap()
                if self._listener in ready:
                    self._answer()
        for pid in list(self.runs.pids.values()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._path.unlink(missing_ok=True)

    def _request_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _answer(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(2.0)
            try:
                request = read_line(connection)
                send_line(connection, self._handle(request))
            except (OSError, ValueError, KeyError) as error:
                _log.warning("request not answered: %r", error)

    def _handle(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = request["op"]
        if operation == "ping":
            return {"ok": True, "pid": os.getpid(), "running": len(self.runs.pids)}
        run_id = str(request["run_id"])
        if operation == "launch":
            return {"ok": True, "pid": self._launch(run_id)}
        if operation == "status":
            return {"ok": True} | self.runs.status(run_id)
        if operation == "terminate":
            return {"ok": self._terminate(run_id)}
        return {"ok": False, "error": f"unknown operation {operation!r}; ping, launch, status or terminate"}

    def _launch(self, run_id: str) -> int:
        if run_id in self.runs.pids:
            return self.runs.pids[run_id]
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._listener.close()
            os._exit(run_in_child(self._instance, run_id, parent))
        self.runs.pids[run_id] = pid
        return pid

    def _terminate(self, run_id: str) -> bool:
        pid = self.runs.pids.get(run_id)
        if pid is None:
            return False
        os.kill(pid, signal.SIGINT)
        return True

    def _reap(self) -> None:
        while self.runs.pids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            run_id = self.runs.note_exit(pid, code)
            if run_id and code != 0:
                _fail_if_unfinished(self._instance, run_id, code)


@contextlib.contextmanager
def _signals_wake_select(on_stop: Any) -> Iterator[int]:
    """Make SIGTERM, SIGINT and SIGCHLD readable on a descriptor, so that `select` wakes at once."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    try:
        yield reader.fileno()
    finally:
        signal.set_wakeup_fd(-1)
        reader.close()
        writer.close()


def _fail_if_unfinished(instance: dg.DagsterInstance, run_id: str, code: int) -> None:
    """Record the failure of a run whose process ended without doing so itself (killed, out of memory)."""
    try:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            instance.report_run_failed(run, f"The process of this run {how}.")
    except Exception:  # noqa: BLE001 - run monitoring fails it later; this server goes on
        _log.exception("could not record the end of run %s", run_id)


def warm_up() -> None:
    """Import what runs need, and resolve the definitions once."""
    for name in WARM_MODULES:
        importlib.import_module(name)
    definitions = importlib.import_module(WARM_MODULES[0]).defs
    definitions.get_repository_def().get_all_jobs()


def wait_for_instance(clock: SystemClock) -> dg.DagsterInstance:
    """The instance named by DAGSTER_HOME, as soon as its database answers.

    Raises:
        Exception: what kept it away for a minute.
    """
    deadline_s = clock.monotonic_s() + 60.0
    while True:
        try:
            return dg.DagsterInstance.get()
        except Exception:  # whatever the storage's driver raises while Postgres comes up
            if clock.monotonic_s() > deadline_s:
                raise
            time.sleep(POLL_S)


def main() -> int:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    settings = Settings.load()
    warm_up()
    server = RunServer(socket_path(settings, NAME), wait_for_instance(SystemClock()))
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
