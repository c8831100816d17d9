"""Submissions of one customer come one after the other, and few of them wait for that with a connection each.

So nobody's submissions, however many at once, take all connections of the API from the others: of one customer's, `PLACES` keep
one while locks make them wait, the rest give theirs back after `FOR_A_PLACE_S`, and are told to come again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TypeVar
from uuid import UUID

from psycopg import Error
from psycopg.errors import LockNotAvailable
from psycopg.pq import TransactionStatus

from hcp_pipelines.workloads.books import Connection
from hcp_pipelines.workloads.errors import QueueFullError

SUBMIT_LOCK, PLACES_LOCK = 4_852_045, 4_852_046
PLACES = 4  # half of the API's connections
FOR_A_PLACE_S, BREATH_S = 0.25, 0.01
FOR_LOCKS_S = 1.0
RETRY_AFTER_S = 1

_BEGIN, _COMMIT = "begin", "commit"
_TRY = f"pg_try_advisory_xact_lock({PLACES_LOCK}, hashtext(%(customer)s || '/{{}}'))"
_PLACE = f"""
    select set_config('lock_timeout', %(wait_ms)s, true), p.is_had,
           case when p.is_had then (select count(*) from pg_advisory_xact_lock({SUBMIT_LOCK}, hashtext(%(customer)s))) end
    from (select {" or ".join(_TRY.format(n) for n in range(PLACES))} as is_had) p"""  # noqa: S608 - of constants
Asked = TypeVar("Asked")


@asynccontextmanager
async def turn_of(
    connection: Connection, customer_id: UUID, ask: Callable[[], Awaitable[Asked]]
) -> AsyncIterator[Asked]:
    """A transaction in which no other submission of this customer is under way, and what `ask` has sent to be answered in it.

    The transaction's beginning, the locks and all that is asked go to Postgres together and are waited for once; so do what the
    block sends last and the end. A statement sees all that was committed before the locks were had. Within a larger transaction
    it has no end of its own, which is then the caller's.

    Raises:
        QueueFullError: too many of its submissions are under way, or something that they wait for takes too long.
    """
    is_whole = connection.info.transaction_status is TransactionStatus.IDLE
    try:
        async with connection.pipeline():
            if is_whole:  # psycopg's own block would wait three times for the end of it all
                await connection.execute(_BEGIN)
            yield await _in_turn(connection, customer_id, ask)
            if is_whole:
                await connection.execute(_COMMIT)
    except BaseException as error:
        if is_whole:
            with suppress(Error):  # the one that ended it says more
                await connection.rollback()
        if isinstance(error, LockNotAvailable):
            raise QueueFullError(
                f"this submission had to wait for longer than {FOR_LOCKS_S:g} s", RETRY_AFTER_S
            ) from error
        raise


async def _in_turn(connection: Connection, customer_id: UUID, ask: Callable[[], Awaitable[Asked]]) -> Asked:
    values = {"customer": str(customer_id), "wait_ms": f"{FOR_LOCKS_S * 1000:.0f}ms"}
    for tries in count(1):
        placed = await connection.execute(_PLACE, values, prepare=True)
        asked = await ask()
        row = await placed.fetchone()
        assert row is not None
        if row[1]:
            break
        if tries * BREATH_S >= FOR_A_PLACE_S:
            raise QueueFullError(f"{PLACES} submissions of this customer are under way already", RETRY_AFTER_S)
        await asyncio.sleep(BREATH_S)
    return asked
