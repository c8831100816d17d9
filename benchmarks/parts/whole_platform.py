"""A whole platform as `hcp up` starts it, for benchmarks that need all of it: on a state directory and a port of its own."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, say
from hcp_pipelines.settings import Settings, child_environment

READY_WITHIN_S = 400.0
STOPPED_WITHIN_S = 90.0
LAST_WORDS = 2_000
HCP = (sys.executable, "-m", "hcp_pipelines.cli.main")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def whole_platform(settings: Settings, *arguments: str) -> Iterator[None]:
    """Everything up and ready; it ends with the block.

    Raises:
        RuntimeError: it ended, or was not ready within READY_WITHIN_S.
    """
    settings.state_dir.mkdir(parents=True)
    with (settings.state_dir.parent / "up.log").open("wb") as log:
        up = subprocess.Popen(
            [*HCP, "up", *arguments], cwd=ROOT, env=child_environment(settings), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            say("waiting until the platform is ready")
            _wait(lambda: bool(status(settings).get("ready")), up, Path(log.name))
            yield
        finally:
            up.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                up.wait(STOPPED_WITHIN_S)


def status(settings: Settings) -> dict[str, Any]:
    """What the supervisor says; empty where it has said nothing."""
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(settings.at("run", "status.json").read_text())
        return found
    return {}


def _wait(condition: Callable[[], bool], up: "subprocess.Popen[bytes]", log: Path) -> None:
    until_s = time.monotonic() + READY_WITHIN_S
    while not condition():
        if up.poll() is not None or time.monotonic() > until_s:
            said = log.read_text()[-LAST_WORDS:]
            raise RuntimeError(
                f"the platform is not ready after {READY_WITHIN_S:.0f} s, or has ended ({up.poll()}): {said}"
            )
        time.sleep(0.5)
