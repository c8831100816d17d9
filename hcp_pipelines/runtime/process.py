"""The shell of every daemon: logs, signals, the end of the parent, /metrics and /healthz, the ready file.

What the daemon does is the `body` it is given.
"""

import asyncio
import ctypes
import gc
import json
import os
import resource
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
import uvloop

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.runtime.files import put_whole
from hcp_pipelines.runtime.http import StatusServer
from hcp_pipelines.runtime.logs import configure_logs
from hcp_pipelines.settings import Settings, environment_value

_PR_SET_PDEATHSIG = 1
STOP_WITHIN_S = 8.0
FILES_MAX = 65_536


@dataclass
class ProcessContext:
    """What a daemon is given. A non-empty text in `health` makes /healthz answer 503 with it."""

    name: str
    settings: Settings
    clock: SystemClock
    log: structlog.stdlib.BoundLogger
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    health: dict[str, str] = field(default_factory=dict)
    status_url: str = ""

    def ready(self, **urls: str) -> None:
        """Say that the process does its work: writes `run/NAME.json` in one step."""
        path = self.settings.at("run", f"{self.name}.json")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = {"health": f"{self.status_url}/healthz", "metrics": f"{self.status_url}/metrics"}
        record = {
            "name": self.name,
            "pid": os.getpid(),
            "urls": own | urls,
            "ready_at": self.clock.real_now().isoformat(),
        }
        put_whole(path, json.dumps(record))
        self.log.info("ready", **urls)


Body = Callable[[ProcessContext], Awaitable[None]]


def run_process(name: str, settings: Settings, body: Body) -> int:
    """Run a daemon until SIGTERM, SIGINT, the parent's end, or the body's; the exit code.

    Error trees of ours end in one log line and code 1; a defect ends with its traceback in the log.
    """
    name = environment_value("HCP_PROCESS_NAME") or name
    log = configure_logs(name, settings.log_level)
    die_with_parent()
    allow_files()
    context = ProcessContext(name, settings, read_clock(settings), log)
    failures: tuple[BaseException, ...] = ()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(context, body))
    except* HcpError as errors:
        failures = errors.exceptions
    for error in failures:
        log.error("stopped", error=str(error))
    log.info("stopped")
    return 1 if failures else 0


async def _run(context: ProcessContext, body: Body) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, context.stop.set)
    end_tracing = _trace(context)
    server = StatusServer(lambda: context.health, context.settings.status_listen)
    context.status_url = await server.start()
    work = asyncio.ensure_future(body(context))
    stopped = asyncio.create_task(context.stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            await asyncio.wait({work}, timeout=STOP_WITHIN_S)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
    finally:
        stopped.cancel()
        await server.stop()
        await asyncio.to_thread(end_tracing)
    if not work.cancelled():
        work.result()


def _trace(context: ProcessContext) -> Callable[[], None]:
    """Export spans where an endpoint is set; what sends the last of them."""
    if not context.settings.otlp_endpoint:
        return lambda: None
    from hcp_pipelines.runtime.tracing import configure_tracing  # 30 MB and half a second: only who wants it

    return configure_tracing(context.name, context.settings.otlp_endpoint)


def read_clock(settings: Settings) -> SystemClock:
    """The platform's clock: through the anchor file, or real time without one."""
    try:
        return SystemClock(Anchor.load(settings.at("run", "clock.json")))
    except FileNotFoundError:
        return SystemClock()


def allow_files(most: int = FILES_MAX) -> int:
    """As many open files as the system lets this process have, within reason: thousands of devices are thousands of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def leave_start_up_alone(made_between: int) -> None:
    """Keep what start-up has made out of the garbage collector's way, and have it look once so many more objects were made.

    Else it walks through all that libraries have made, a tenth of a second of it, in the middle of the work.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(made_between, 20, 100)


def die_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
