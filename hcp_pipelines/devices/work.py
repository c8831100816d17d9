"""Doing some work for many devices, so many at a time, and what to call what came of it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

import structlog

from hcp_pipelines.domain.errors import (
    DeviceRefusedError,
    DeviceReplyError,
    DeviceUnreachableError,
    HcpError,
    NotNowError,
)

T = TypeVar("T")
R = TypeVar("R")

TURN_DEADLINES = (
    2  # a turn may be two calls: a miner's mode is a second one, as is a node's agent where its page shows no GPU
)


async def spread(items: Iterable[T], workers: int, work: Callable[[T], Awaitable[None]]) -> None:
    """Do some work for every item, so many at a time; not a task per item."""
    waiting: Iterator[T] = iter(items)

    async def one() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(one())


async def one_devices(work: Awaitable[R], name: str) -> R:
    """Some work on one device; a defect that its answer sets off is that device's reply error, and nobody else's.

    Raises:
        HcpError: as the work does.
        DeviceReplyError: anything else that it raised; the log has the traceback.
    """
    try:
        return await work
    except HcpError:
        raise
    except Exception as defect:
        structlog.get_logger("devices").error("an answer sets off a defect of ours", device=name, exc_info=defect)
        raise DeviceReplyError(
            f"{name}: what it answers sets off {type(defect).__name__}: {str(defect)[:200]}"
        ) from defect


async def one_turn(work: Awaitable[R], name: str, deadline_s: float) -> R:
    """One device's turn of a round, however many calls of `deadline_s` it is: who takes longer than two has failed.

    The round goes on without it.

    Raises:
        HcpError: as `one_devices`.
        DeviceUnreachableError: it was not done in time.
    """
    turn_s = TURN_DEADLINES * deadline_s
    try:
        async with asyncio.timeout(turn_s):
            return await one_devices(work, name)
    except TimeoutError:
        raise DeviceUnreachableError(f"{name}: its turn of the round was not done within {turn_s:g} s") from None


def rounds_to_wait(failures: int, most: int) -> int:
    """After how many rounds a device that has failed so many times in a row is asked again.

    >>> [rounds_to_wait(failures, 8) for failures in (1, 2, 3, 4, 5)]
    [1, 2, 4, 8, 8]
    """
    return int(min(2 ** (failures - 1), most))


def no_cookies() -> CookieJar:
    """A jar that takes none: one client speaks to thousands of devices, and what one sets is sent to no other, nor kept."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


def may_pass(error: HcpError | None) -> bool:
    """Whether asking a device again later may help: no answer, one that does not decode, or busy; not a refusal, nor no error."""
    return isinstance(error, DeviceUnreachableError | DeviceReplyError | NotNowError)


def kind_of(error: HcpError) -> str:
    """An error's name in metrics and log lines.

    >>> kind_of(DeviceReplyError("bytes"))
    'reply'
    """
    match error:
        case DeviceUnreachableError():
            return "unreachable"
        case DeviceRefusedError():
            return "refused"
        case DeviceReplyError():
            return "reply"
        case _:
            return "storage"
