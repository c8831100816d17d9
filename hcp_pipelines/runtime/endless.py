"""Work that goes on until it is told to end: that it never ends by itself unnoticed, and who it was that ended it."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class EndedError(Exception):
    """A defect: work that should go on has ended."""


def is_being_ended() -> bool:
    """Whether the running task was told to end: a CancelledError may as well be that of something it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def endless(work: Coroutine[Any, Any, object]) -> None:
    """Do work that ends when its task is cancelled, and in no other way.

    A task that ends cancelled is no failure to a TaskGroup: without this, what it did would just not be done any more.

    Raises:
        EndedError: it ended by itself, or what it waited for was cancelled.
    """
    try:
        await work
    except asyncio.CancelledError as error:
        if is_being_ended():
            raise
        raise EndedError(f"{work.__qualname__}: what it waited for was cancelled") from error
    raise EndedError(f"{work.__qualname__} has ended by itself")
