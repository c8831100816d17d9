"""Carries a schedule out on a stage: kills, stops, restarts, lines, disks, clocks, orders; and heals everything at the end.

A fault whose target does not run just then is counted as missed. Only processes of this platform are touched, by pid.
"""

import contextlib
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hcp_pipelines.supervisor.guardian import session_members
from tests.faults.chaos.ordering import Operator
from tests.faults.chaos.plan import Fault
from tests.faults.chaos.stage import Stage

SIGNALS = {"kill": signal.SIGKILL, "restart-fast": signal.SIGINT, "restart-immediate": signal.SIGQUIT}
LINE = ("cut", "hole", "slow", "lossy")
FULL_BYTES = 1  # nothing may be written beyond: what a disk without room says, as EFBIG
BACK_WITHIN_S = 30.0
AT_ONCE = 24


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was done: when, to which pid, and until when it lasted."""

    fault: Fault
    real_s: float
    pid: int | None
    ended_s: float


class Injector:
    """Does faults, each in a thread of its own where it lasts."""

    def __init__(self, stage: Stage, operator: Operator) -> None:
        self._stage, self._operator = stage, operator
        self.done: list[Done] = []
        self.missed: Counter[str] = Counter()
        self.skewed: set[str] = set()
        self._ends = threading.Event()
        self._clock_lock = threading.Lock()  # one shifted anchor at a time

    def run(self, schedule: Sequence[Fault]) -> None:
        """Do each at its time; returns when all have ended."""
        began_s = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            under_way: list[Future[None]] = []
            for fault in schedule:
                time.sleep(max(began_s + fault.at_s - time.monotonic(), 0))
                under_way.append(pool.submit(self._do, fault))
            for future in under_way:
                future.result()

    def heal(self) -> None:
        """Nothing is faulty from here on; clocks that went wrong are right after a restart."""
        for name in self._stage.gateways:
            self._stage.edit_gateway(name, self._stage.anchor)
        for row in self._stage.platform.status()["processes"]:
            for pid in _family(row["pid"]):
                _quietly(lambda pid=pid: os.kill(pid, signal.SIGCONT))
                _quietly(lambda pid=pid: _limit_files(pid, resource.RLIM_INFINITY))
        for name in sorted(self.skewed):
            self._stage.platform.wait(
                lambda name=name: self._stage.pid(name) is not None, BACK_WITHIN_S, f"{name} runs"
            )
            self._stage.platform.kill9(name)

    def _do(self, fault: Fault) -> None:
        began_s, pid = time.time(), None
        if fault.kind == "order":
            what, _, facility_id = fault.target.partition(":")
            self._operator.order(what, facility_id, fault.amount)
        elif fault.kind in LINE:
            self._line(fault)
        else:
            pid = self._stage.pid(fault.target)
            if pid is None or not _quietly(lambda: self._process(fault, pid)):
                self.missed[fault.kind] += 1
                return
        self.done.append(Done(fault, began_s, pid, time.time()))

    def _process(self, fault: Fault, pid: int) -> None:
        if fault.kind in SIGNALS:
            os.kill(pid, SIGNALS[fault.kind])
        elif fault.kind == "stop":
            with _signalled(_family(pid), signal.SIGSTOP, signal.SIGCONT):
                self._ends.wait(fault.for_s)
        elif fault.kind == "full-disk":
            with _full(_family(pid)):
                self._ends.wait(fault.for_s)
        else:
            self._skew(fault, pid)

    def _line(self, fault: Fault) -> None:
        relay = self._stage.relays[fault.target]
        relay.impose(fault.kind, fault.amount)
        self._ends.wait(fault.for_s)
        relay.lift(fault.kind, fault.amount)

    def _skew(self, fault: Fault, pid: int) -> None:
        """Restarted, it reads an anchor that is wrong by `amount` seconds; a gateway reads one of its own."""
        with self._clock_lock:
            right = self._stage.anchor.read_text()
            wrong = self._stage.shifted_anchor(fault.amount)
            self.skewed.add(fault.target)
            if fault.target in self._stage.gateways:
                own = self._stage.settings.at("run", f"clock-{fault.target}.json")
                _replace(own, wrong)
                self._stage.edit_gateway(fault.target, own)
                os.kill(pid, signal.SIGKILL)
                return
            _replace(self._stage.anchor, wrong)
            try:
                os.kill(pid, signal.SIGKILL)
                self._until_started(fault.target, pid)
            finally:
                _replace(self._stage.anchor, right)

    def _until_started(self, name: str, old: int) -> None:
        deadline_s = time.monotonic() + BACK_WITHIN_S
        while time.monotonic() < deadline_s and not self._ends.is_set():
            row = self._stage.platform.row(name)
            if row["pid"] not in (None, old) and row["healthy"]:
                return
            time.sleep(0.1)


def _family(pid: int | None) -> list[int]:
    """A process and all of its session."""
    return [] if pid is None else list(session_members({pid}))


@contextlib.contextmanager
def _signalled(pids: Sequence[int], first: signal.Signals, last: signal.Signals) -> Iterator[None]:
    for pid in pids:
        _quietly(lambda pid=pid: os.kill(pid, first))
    try:
        yield
    finally:
        for pid in pids:
            _quietly(lambda pid=pid: os.kill(pid, last))


@contextlib.contextmanager
def _full(pids: Sequence[int]) -> Iterator[None]:
    for pid in pids:
        _quietly(lambda pid=pid: _limit_files(pid, FULL_BYTES))
    try:
        yield
    finally:
        for pid in pids:
            _quietly(lambda pid=pid: _limit_files(pid, resource.RLIM_INFINITY))


def _limit_files(pid: int, most_bytes: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


def _quietly(do: Callable[[], object]) -> bool:
    """Whether it could be done: the process may have gone."""
    try:
        do()
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".chaos")
    fresh.write_text(text)
    fresh.replace(path)
