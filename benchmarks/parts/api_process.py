"""The API as a process of its own, over a Postgres of its own: either can be killed, and started again."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.common import ROOT
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.supervisor.guardian import session_members

READY_WITHIN_S = 60.0
ENDED_WITHIN_S = 20.0


@dataclass
class ApiProcess:
    """`python -m hcp_pipelines.api` on a port that is free."""

    settings: Settings
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> tuple[str, int]:
        """Host and port, once it serves.

        Raises:
            RuntimeError: it ended, or did not serve in time.
        """
        ready = self.settings.at("run", "api.json")
        ready.unlink(missing_ok=True)
        log = self.settings.at("logs", "api.log")
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hcp_pipelines.api"], cwd=ROOT, stdout=out, stderr=out,
                env=child_environment(self.settings, HCP_PROCESS_NAME="api"),
            )  # fmt: skip
        until_s = time.monotonic() + READY_WITHIN_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"the API does not serve: {log.read_text()[-500:]}")
            time.sleep(0.05)
        found = urlsplit(json.loads(ready.read_text())["urls"]["api"])
        assert found.hostname is not None
        assert found.port is not None
        return found.hostname, found.port

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As asked."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(ENDED_WITHIN_S)


@dataclass
class OwnPostgres:
    """A server with a database of its own."""

    settings: Settings
    server: EmbeddedPostgres
    process: "subprocess.Popen[bytes]"

    def kill_and_restart(self) -> None:
        """SIGKILL to the server itself, as when a machine's memory is full; then its recovery."""
        self.process.kill()
        self.process.wait()
        until_s = time.monotonic() + ENDED_WITHIN_S
        while session_members({self.process.pid}):  # backends notice that it is gone; until then its memory is in use
            if time.monotonic() > until_s:
                raise RuntimeError("backends of the killed server are still there")
            time.sleep(0.05)
        self.process = self.server.spawn()
        self.server.wait_ready()


@contextlib.contextmanager
def own_postgres(**changes: Any) -> Iterator[OwnPostgres]:
    """In a temporary state directory; all of it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hcp-queue-"))
    settings = Settings(state_dir=folder / "state", **changes)
    server = EmbeddedPostgres(settings)
    server.prepare()
    own = OwnPostgres(settings, server, server.spawn())
    try:
        server.wait_ready()
        bootstrap(settings)
        yield own
    finally:
        server.stop()
        shutil.rmtree(server.data_dir.parent, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
