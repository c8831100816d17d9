"""Submissions of one customer come one after the other, and few of them wait for that with a connection each.

So nobody's submissions, however many at once, take all connections of the API from the others: of one customer's, `PLACES` keep
one while locks make them wait, the rest give theirs back after `FOR_A_PLACE_S`, and are told to come again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from uuid import UUID

from psycopg.errors import LockNotAvailable

from hcp_pipelines.workloads.books import Connection
from hcp_pipelines.workloads.errors import QueueFullError

SUBMIT_LOCK, PLACES_LOCK = 4_852_045, 4_852_046
PLACES = 4  # half of the API's connections
FOR_A_PLACE_S, BREATH_S = 0.25, 0.01
FOR_LOCKS_S = 1.0
RETRY_AFTER_S = 1

_TRY = f"pg_try_advisory_xact_lock({PLACES_LOCK}, hashtext(%(customer)s || '/{{}}'))"
_PLACE = "select set_config('lock_timeout', %(wait_ms)s, true), " + " or ".join(_TRY.format(n) for n in range(PLACES))
_TURN = "select pg_advisory_xact_lock(%s, hashtext(%s))"


@asynccontextmanager
async def turn_of(connection: Connection, customer_id: UUID) -> AsyncIterator[None]:
    """A transaction in which no other submission of this customer is under way.

    Raises:
        QueueFullError: too many of its submissions are under way, or something that they wait for takes too long.
    """
    try:
        async with connection.transaction():
            await _take_place(connection, customer_id)
            await connection.execute(_TURN, (SUBMIT_LOCK, str(customer_id)), prepare=True)
            yield
    except LockNotAvailable as error:
        raise QueueFullError(f"this submission had to wait for longer than {FOR_LOCKS_S:g} s", RETRY_AFTER_S) from error


async def _take_place(connection: Connection, customer_id: UUID) -> None:
    values = {"customer": str(customer_id), "wait_ms": f"{FOR_LOCKS_S * 1000:.0f}ms"}
    for tries in count(1):
        row = await (await connection.execute(_PLACE, values, prepare=True)).fetchone()
        assert row is not None
        if row[1]:
            return
        if tries * BREATH_S >= FOR_A_PLACE_S:
            raise QueueFullError(f"{PLACES} submissions of this customer are under way already", RETRY_AFTER_S)
        await asyncio.sleep(BREATH_S)
