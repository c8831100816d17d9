"""Virtual time: an event loop that jumps to its next timer, and processes in it that can be paused, killed and skewed.

Every handle runs in the context of the process that made it, which is how a process is stopped without its help: its handles
wait while it is paused (SIGSTOP), and are dropped once it is dead (SIGKILL; no `finally` of it runs).
"""

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from hcp_pipelines.domain.clock import Anchor, SystemClock

EPOCH = datetime(2025, 1, 1, 12, tzinfo=UTC)
SPEED = 20.0

_PROCESS: ContextVar["Process | None"] = ContextVar("process", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """Time stands still while a handle runs. `steps` counts the handles that did."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s, self.steps = 0.0, 0
        self.world = Context()  # of what is nobody's: network, store, devices, faults
        self.kept: list[OwnedTask] = []  # so that what nobody runs any more isn't collected, and closed, in mid-run
        self._prune_at = 1000
        self.set_exception_handler(self._note_error)
        self.errors: list[str] = []

    def time(self) -> float:
        return self.now_s

    def later(self, delay_s: float, call: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Call something in the world's own context."""
        return self.call_at(self.now_s + delay_s, call, *args, context=self.world)

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise RuntimeError(f"nothing will ever happen again, at {self.now_s:.3f} s")
            self.now_s = max(self.now_s, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self.now_s:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)
            if process is None or process.runs:
                self.steps += 1
                handle._run()
            elif not process.is_dead:
                process.held.append(handle)

    def _process_events(self, event_list: object) -> None:
        """There are no sockets."""

    def _write_to_self(self) -> None:
        """There are no threads."""

    def _note_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(f"{context.get('message')}: {error!r}")

    def keep(self, task: "OwnedTask") -> None:
        """Have a task outlive whoever forgets it."""
        self.kept.append(task)
        if len(self.kept) >= self._prune_at:
            self.kept = [t for t in self.kept if not t.done()]
            self._prune_at = 2 * len(self.kept) + 1000

    def _check_closed(self) -> None:
        """What is collected after the end may still call."""

    def bury(self) -> None:
        """End of the run: what never ended is closed without a word."""
        self.set_exception_handler(lambda *_: None)
        for task in self.kept:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):
                task.get_coro().close()  # type: ignore[union-attr]
        self.kept.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()


class Process:
    """One incarnation of a process."""

    def __init__(self, loop: VirtualLoop, name: str, skew_s: float = 0.0) -> None:
        self.loop, self.name, self.skew_s = loop, name, skew_s
        self.context = Context()
        self.context.run(_PROCESS.set, self)
        self.runs, self.is_dead, self.number = True, False, 0
        self.held: list[asyncio.Handle] = []
        self.paused_at_s, self.is_overdue = -1.0, False  # what runs now was due while the process stood still
        self.on_death: list[Callable[[], None]] = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in this process."""
        return self.context.run(self.loop.create_task, work)

    def call(self, call: Callable[..., object], *args: object) -> None:
        """Call something in this process, when it runs."""
        if not self.is_dead:
            self.loop.call_soon(call, *args, context=self.context)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.runs:
            self.runs, self.paused_at_s = False, self.loop.now_s

    def resume(self) -> None:
        """SIGCONT: all that was due meanwhile is due now."""
        if self.runs or self.is_dead:
            return
        self.runs = True
        held, self.held = self.held, []
        self._note_overdue(is_overdue=True)
        self.loop._ready.extend(held)  # type: ignore[attr-defined]
        self._note_overdue(is_overdue=False)

    def _note_overdue(self, *, is_overdue: bool) -> None:
        self.loop.call_soon(setattr, self, "is_overdue", is_overdue, context=self.loop.world)

    def kill(self) -> None:
        """SIGKILL."""
        if self.is_dead:
            return
        self.runs, self.is_dead = False, True
        self.held.clear()
        for call in self.on_death:
            call()

    @property
    def acted_at_s(self) -> float:
        """When what happens now was decided: before the pause, if the pause came between word and deed.

        What follows from what was overdue is decided after it, by clocks that show how late it is.
        """
        return self.paused_at_s if self.is_overdue else self.loop.now_s


class OwnedTask(asyncio.Task[Any]):
    """A task that its loop keeps alive."""

    def __init__(self, *args: Any, loop: VirtualLoop, **kwargs: Any) -> None:
        super().__init__(*args, loop=loop, **kwargs)
        loop.keep(self)


def make_loop() -> VirtualLoop:
    """A loop at the beginning of time."""
    loop = VirtualLoop()
    loop.set_task_factory(lambda loop, work, **more: OwnedTask(work, loop=loop, **more))
    return loop


def current() -> Process:
    """The process that runs."""
    process = _PROCESS.get()
    assert process is not None
    return process


class ProcessClock(SystemClock):
    """What a process' clocks show: the wall clock is off by its skew, the monotonic one began somewhere."""

    def __init__(self, loop: VirtualLoop, skew_s: float = 0.0, booted_s: float = 1000.0) -> None:
        super().__init__(Anchor(EPOCH, EPOCH, SPEED))
        self._loop, self._skew_s, self._booted_s = loop, skew_s, booted_s

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=(self._loop.now_s + self._skew_s) * SPEED)

    def real_now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.now_s + self._skew_s)

    def monotonic_s(self) -> float:
        return self._loop.now_s + self._booted_s

    def monotonic_ns(self) -> int:
        return round(self.monotonic_s() * 1e9)


def simulated_s(real_s: float) -> float:
    """Simulated Unix seconds at a virtual instant."""
    return EPOCH.timestamp() + real_s * SPEED


def real_s(simulated: float) -> float:
    """The virtual instant of simulated Unix seconds."""
    return (simulated - EPOCH.timestamp()) / SPEED
