"""The server behind the in-memory store, and the ways in which a database is lost: what is in its tables is next door.

Statements travel, are committed in the server's own time whether or not their client still runs, and answer: each of the three
can fail by itself, so that a client may not know whether it was committed.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import psycopg

from tests.faults.virtual import VirtualLoop

T = TypeVar("T")


class Server:
    """What is wrong with it, and who listens."""

    def __init__(self, loop: VirtualLoop, seed: str) -> None:
        self.loop, self.random = loop, random.Random(seed)
        self.is_down, self.hangs = False, False
        self.reply_lost = self.request_lost = self.deaf = 0.0  # probabilities
        self.commit_late_s = 0.0  # the most by which the answer to a wave's commit is late
        self.commit_unheard = (
            0.0  # probability that a wave is committed so late that its client has been told it failed
        )
        self.listeners: list[asyncio.Queue[str]] = []
        self._hung: list[Callable[[], None]] = []

    async def run(self, apply: Callable[[], T], late_s: float = 0.0, *, is_unheard: bool = False) -> T:
        """Have `apply` committed at the server, and answered so many seconds late; or the client told at once that it failed."""
        answer: asyncio.Future[T] = self.loop.create_future()
        is_lost = self.random.random() < self.request_lost

        def arrive() -> None:
            if self.hangs:
                self._hung.append(arrive)
            elif self.is_down or is_lost:
                self._fail(answer, "server closed the connection unexpectedly")
            else:
                self._commit(answer, apply, late_s, is_unheard=is_unheard)

        self.loop.later(self._latency_s(), arrive)
        return await answer

    def _commit(self, answer: "asyncio.Future[T]", apply: Callable[[], T], late_s: float, *, is_unheard: bool) -> None:
        if is_unheard:
            self._fail(answer, "connection lost before the commit")
            self.loop.later(late_s, apply)
            return
        try:
            found = apply()
        except psycopg.Error as error:
            self._later(answer, partial(answer.set_exception, error))
            return
        if self.random.random() < self.reply_lost:
            self._fail(answer, "connection lost after the commit")
        else:
            self._later(answer, lambda: answer.set_result(found), late_s)

    def _fail(self, answer: "asyncio.Future[Any]", why: str) -> None:
        self._later(answer, lambda: answer.set_exception(psycopg.OperationalError(why)))

    def _later(self, answer: "asyncio.Future[Any]", settle: Callable[[], None], late_s: float = 0.0) -> None:
        def reply() -> None:
            if self.hangs:
                self._hung.append(reply)
            elif not answer.done():
                settle()

        self.loop.later(late_s + self._latency_s(), reply)

    def _latency_s(self) -> float:
        return 0.0003 + self.random.random() ** 4 * 0.02

    def go_on(self) -> None:
        """A server that hung carries out what it was asked, late."""
        self.hangs = False
        hung, self._hung = self._hung, []
        for call in hung:
            self.loop.later(self._latency_s(), call)

    def notify(self, channel: str) -> None:
        """Wake who listens; a notification may be lost."""
        for queue in self.listeners:
            if not self.is_down and self.random.random() >= self.deaf:
                self.loop.later(self._latency_s(), queue.put_nowait, channel)
