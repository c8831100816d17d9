"""Telling devices again, behind the reply, what they could not be told and may yet be: one way for all drivers."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from itertools import chain, repeat
from typing import Any, TypeVar

from hcp_pipelines.devices.work import may_pass
from hcp_pipelines.domain.errors import HcpError

T = TypeVar("T")

RETRY_AFTER_S = (2.0, 4.0, 8.0, 16.0)  # real; the last one again and again


def passing(refused: Mapping[int, HcpError]) -> dict[int, HcpError]:
    """Those of the slots that were not told which may be later, and why they were not."""
    return {slot: error for slot, error in refused.items() if may_pass(error)}


async def tell_again(tell: Callable[[], Awaitable[Mapping[int, HcpError]]], is_over: Callable[[], bool]) -> None:
    """Tell after a while, and again: until all is told, or can't be, or after every wait it is over.

    `tell` asks those that are left, and answers with whom it could not tell and why.
    """
    for tries, wait_s in enumerate(chain(RETRY_AFTER_S, repeat(RETRY_AFTER_S[-1])), start=1):
        await asyncio.sleep(wait_s)
        left = passing(await tell())
        if not left or (tries >= len(RETRY_AFTER_S) and is_over()):
            return


class Tasks:
    """What runs behind a driver's replies; `close` ends it."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def close(self) -> None:
        """End what is under way."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
