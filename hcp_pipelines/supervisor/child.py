"""One supervised process: spawn, readiness, health, restart with backoff, stop. No knowledge of what it runs."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO

import httpx

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.supervisor.guardian import boot_id, end_sessions, start_ticks

BACKOFF_FIRST_S = 0.5
BACKOFF_LAST_S = 15.0
STEADY_AFTER_S = 30.0
HEALTH_TIMEOUT_S = 2.0
REASONS_MAX = 400  # characters of what a process says is wrong
LOG_MAX_BYTES = 64 * 1024 * 1024
_PR_SET_PDEATHSIG = 1
_AUTOGROUP = Path("/proc/self/autogroup")
_AUTOGROUP_TRIES, _AUTOGROUP_AGAIN_S = 5, 0.11

Probe = Callable[[httpx.AsyncClient], Awaitable[str]]
"""Answers '' when ready and healthy, else what is missing."""


class State(StrEnum):
    """Where a process is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ProcessSpec:
    """How to run one process. Without a `probe`, health is what the ready file's `health` URL answers."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    ready_file: Path | None = None
    probe: Probe | None = None
    after: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10.0
    ready_within_s: float = 120.0
    spawn: Callable[[], "subprocess.Popen[bytes]"] | None = None
    nice: int = 0  # above 0: gives way to what decides and switches


@dataclass
class Child:
    """A process under supervision."""

    spec: ProcessSpec
    log_path: Path
    clock: Clock
    state: State = State.WAITING
    restarts: int = 0
    reason: str = ""
    process: "subprocess.Popen[bytes] | None" = None
    started_s: float = 0.0
    retry_at_s: float = 0.0
    _backoff_s: float = BACKOFF_FIRST_S
    _probed: str | None = field(default=None)

    @property
    def pid(self) -> int | None:
        """Pid of the running process."""
        return self.process.pid if self.process and self.process.poll() is None else None

    def start(self) -> None:
        """Spawn it in a session of its own, tied to our life, its output in its log."""
        if self.spec.ready_file:
            self.spec.ready_file.unlink(missing_ok=True)
        if self.spec.spawn:
            self.process = self.spec.spawn()
        else:
            with _open_log(self.log_path) as log:
                self.process = subprocess.Popen(
                    list(self.spec.argv),
                    env=dict(self.spec.env),
                    cwd=self.spec.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_before_exec(self.spec.death_signal, self.spec.nice),  # noqa: PLW1509 - we spawn from one thread
                )
        self.started_s = self.clock.monotonic_s()
        self.state, self.reason, self._probed = State.STARTING, "starting", None

    def poll(self) -> None:
        """Notice death, readiness, health; start again when the backoff has passed."""
        now_s = self.clock.monotonic_s()
        if self.state in (State.STARTING, State.READY) and self.process and self.process.poll() is not None:
            self._note_death(now_s)
        elif self.state is State.BACKOFF and now_s >= self.retry_at_s:
            self.restarts += 1
            self.start()
        elif self.state is State.STARTING:
            self._note_readiness(now_s)
        elif self.state is State.READY:
            self.reason = self._probed or ""
            if now_s - self.started_s > STEADY_AFTER_S:
                self._backoff_s = BACKOFF_FIRST_S

    def stop(self) -> None:
        """Ask it to stop; `reap` waits."""
        self.state, self.reason = State.STOPPED, "stopped"
        if self.pid:
            os.kill(self.pid, self.spec.stop_signal)

    def reap(self, grace_s: float | None = None) -> None:
        """Wait for its end, then end what is left of its session."""
        if self.process is None:
            return
        try:
            self.process.wait(self.spec.stop_grace_s if grace_s is None else grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        end_sessions({self.process.pid}, signal.SIGTERM, 1.0)

    def restart(self) -> None:
        """Stop it and start it again at once, e.g. with a new configuration."""
        self.stop()
        self.reap()
        self.start()

    def identity(self) -> dict[str, object] | None:
        """What the guardian needs to find it again."""
        if self.process is None:
            return None
        pid = self.process.pid
        return {"name": self.spec.name, "pid": pid, "start_ticks": start_ticks(pid), "boot_id": boot_id()}

    def urls(self) -> dict[str, str]:
        """What its ready file announces."""
        return _ready_urls(self.spec.ready_file, self.pid)

    def _note_death(self, now_s: float) -> None:
        code = self.process.returncode if self.process else None
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exited with {code}"
        if self.process:
            end_sessions({self.process.pid}, signal.SIGTERM, 1.0)
        self.state = State.BACKOFF
        self.reason = f"{how}; starts again in {self._backoff_s:.1f} s; see {self.log_path}"
        self.retry_at_s = now_s + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_LAST_S)

    def _note_readiness(self, now_s: float) -> None:
        if self._probed == "":
            self.state, self.reason = State.READY, ""
        else:
            self.reason = self._probed or "starting"
            if now_s - self.started_s > self.spec.ready_within_s and self.process:
                self.process.kill()

    async def check(self, client: httpx.AsyncClient) -> None:
        """Ask the process how it is; `poll` acts on the answer."""
        if self.state not in (State.STARTING, State.READY):
            return
        if self.spec.ready_file and not _is_ready_file_of(self.spec.ready_file, self.pid):
            self._probed = "not ready yet"
        elif self.spec.probe:
            self._probed = await self.spec.probe(client)
        else:
            url = self.urls().get("health")
            self._probed = await check_health(client, url) if url else ""


async def check_health(client: httpx.AsyncClient, url: str) -> str:
    """'' when the process says that it is well, else its reasons."""
    try:
        reply = await client.get(url, timeout=HEALTH_TIMEOUT_S)
    except httpx.HTTPError as error:
        return f"no answer on {url}: {error!r}"
    return "" if reply.is_success else _reasons(reply)[:REASONS_MAX]


def _reasons(reply: httpx.Response) -> str:
    """The problems that /healthz names, as one line; another answer as it came."""
    try:
        problems = reply.json()["problems"]
        return "; ".join(f"{name}: {text}" for name, text in problems.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return reply.text


def _is_ready_file_of(path: Path, pid: int | None) -> bool:
    try:
        return bool(pid) and json.loads(path.read_text()).get("pid") == pid
    except (OSError, ValueError):
        return False


def _ready_urls(path: Path | None, pid: int | None) -> dict[str, str]:
    if path is None or not _is_ready_file_of(path, pid):
        return {}
    urls = json.loads(path.read_text()).get("urls", {})
    return {str(k): str(v) for k, v in urls.items()}


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_log(path)
    return path.open("ab")


def cut_log(path: Path) -> None:
    """Move what a log holds to `.log.1` once it is long; whoever writes it goes on, for all of them append."""
    try:
        if path.stat().st_size <= LOG_MAX_BYTES:
            return
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)
    except FileNotFoundError:
        return


def _before_exec(death_signal: signal.Signals, nice: int) -> Callable[[], None]:
    """Tie the child to our life, and set how far it gives way to others."""
    libc = ctypes.CDLL(None, use_errno=True)

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if nice:
            _give_way(nice)

    return before_exec


def _give_way(nice: int) -> None:
    """Niceness against all others: where sessions are scheduled as groups (autogroup), a process' own counts inside them alone.

    Source: sched(7). Without privilege one group in a tenth of a second may be changed.
    """
    os.nice(nice)
    for _ in range(_AUTOGROUP_TRIES):
        try:
            _AUTOGROUP.write_text(str(nice))
        except BlockingIOError:
            time.sleep(_AUTOGROUP_AGAIN_S)
        except OSError:
            return  # not this kernel
        else:
            return
