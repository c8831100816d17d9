"""Streams that clients read: so many at once, each within a time. Who does not read holds neither files nor memory for long."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc

READERS_MAX = 16  # of one method: tools and the daemon that follows discovery
READ_WITHIN_S = 120.0  # a reader goes on from the last that it has
END_WITHIN_S = 0.5  # a status waits behind what was not read

Context = grpc.aio.ServicerContext


class Readers:
    """The streams of one method that are open."""

    def __init__(self, what: str) -> None:
        self._what, self._open = what, 0

    async def send(self, context: "Context[Any, Any]", messages: Iterator[object]) -> None:
        """Send them all; the call ends with RESOURCE_EXHAUSTED or DEADLINE_EXCEEDED where that can't be."""
        if self._open >= READERS_MAX:
            text = f"{READERS_MAX} clients read the {self._what} already: ask again later"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        self._open += 1
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                for message in messages:
                    await context.write(message)
        except TimeoutError:
            await self._end(context)
        finally:
            self._open -= 1

    async def _end(self, context: "Context[Any, Any]") -> None:
        text = f"the {self._what} was not read within {READ_WITHIN_S:g} s: go on from the last entry"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN_S):
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, text)
