"""LISTEN that survives a lost connection.

The row is the truth and a notification only a hint: every wait also ends by itself after `poll_s`, so that whoever
waits looks at the tables in any case.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import sql

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect_async
from hcp_pipelines.storage.roles import Role

BACKOFF_FIRST_S = 0.1
BACKOFF_LAST_S = 5.0


@dataclass(frozen=True, slots=True)
class Notification:
    """One NOTIFY."""

    channel: str
    payload: str


class Listener:
    """Waits for notifications on some channels; use as an async context manager."""

    def __init__(self, settings: Settings, role: Role, channels: Sequence[str], poll_s: float = 1.0) -> None:
        self._settings = settings
        self._role = role
        self._channels = tuple(channels)
        self._poll_s = poll_s
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._backoff_s = BACKOFF_FIRST_S
        self.last_error = ""

    async def __aenter__(self) -> Self:
        """Listen, if the server is there; else the first wait tries again."""
        with contextlib.suppress(psycopg.OperationalError, StorageError):
            await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self._close()

    def __aiter__(self) -> Self:
        """Batches without end, as `wait` gives them."""
        return self

    async def __anext__(self) -> list[Notification]:
        """The next batch."""
        return await self.wait()

    @property
    def is_connected(self) -> bool:
        """Whether notifications can come in at this moment."""
        return self._connection is not None and not self._connection.closed

    async def wait(self) -> list[Notification]:
        """The next notifications, all that came in one packet; empty after `poll_s`, and after a reconnect.

        An empty batch is as good a reason to look at the tables as a full one.
        """
        if not self.is_connected:
            await self._reconnect()
            return []
        try:
            return await self._next_batch()
        except (psycopg.OperationalError, OSError) as error:
            self.last_error = str(error).strip()
            await self._close()
            return []

    async def _next_batch(self) -> list[Notification]:
        assert self._connection is not None
        batch = []
        async for notify in self._connection.notifies(timeout=self._poll_s, stop_after=1):
            batch.append(Notification(notify.channel, notify.payload))
        return batch

    async def _reconnect(self) -> None:
        try:
            await self._connect()
        except (psycopg.OperationalError, StorageError) as error:
            self.last_error = str(error).strip()
            await asyncio.sleep(min(self._backoff_s, self._poll_s))
            self._backoff_s = min(self._backoff_s * 2, BACKOFF_LAST_S)

    async def _connect(self) -> None:
        connection = await connect_async(self._settings, self._role)
        try:
            for channel in self._channels:
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        except BaseException:
            await connection.close()
            raise
        self._connection, self._backoff_s, self.last_error = connection, BACKOFF_FIRST_S, ""

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()
