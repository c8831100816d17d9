"""Submissions on their way to Postgres: those of one customer that come while one of it is under way go together with the next.

Each is judged and answered by itself; what they share is the transaction, so that thousands at once cost one connection a
customer and a commit for dozens, and the tier: one that changes meanwhile begins a new one. Nobody waits for company: who comes
alone goes at once.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from hcp_pipelines.domain.workloads import Tier
from hcp_pipelines.workloads import store
from hcp_pipelines.workloads.routing.scoring import Estimates

AT_ONCE = 32  # in a transaction, which keeps the customer's rows locked for some tens of milliseconds then
Waiting = tuple[Tier, store.Submission, "asyncio.Future[store.Submitted]"]
Connect = Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]]


class Submitting:
    """Those of one API process."""

    def __init__(self, connect: Connect, now: Callable[[], datetime], estimates: Estimates) -> None:
        self._connect, self._now, self._estimates = connect, now, estimates
        self._waiting: dict[UUID, deque[Waiting]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def submit(self, customer_id: UUID, tier: Tier, one: store.Submission) -> store.Submitted:
        """As `store.submit`, whose errors it raises, and those of Postgres."""
        answer: asyncio.Future[store.Submitted] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(customer_id)
        if waiting is not None:
            waiting.append((tier, one, answer))
        else:
            self._waiting[customer_id] = deque([(tier, one, answer)])
            task = asyncio.create_task(self._work(customer_id))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return await answer

    async def _work(self, customer_id: UUID) -> None:
        """Until nothing of this customer waits; whoever has given up meanwhile is left out."""
        waiting = self._waiting[customer_id]
        try:
            while waiting:
                tier, batch = waiting[0][0], list[Waiting]()
                while waiting and waiting[0][0] == tier and len(batch) < AT_ONCE:
                    batch.append(waiting.popleft())
                await self._take_in(customer_id, tier, [each for each in batch if not each[2].done()])
        finally:
            del self._waiting[customer_id]
            for *_, answer in waiting:
                answer.cancel()

    async def _take_in(self, customer_id: UUID, tier: Tier, batch: Sequence[Waiting]) -> None:
        try:
            answers: Sequence[store.Submitted | Exception] = await self._submit_all(customer_id, tier, batch)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(batch) > 1:  # of one of them: it is no fault of the others
                for each in batch:
                    await self._take_in(customer_id, tier, [each])
                return
            answers = [error]
        except Exception as error:  # noqa: BLE001 - whatever it is, each of them is told
            answers = [error] * len(batch)
        for (*_, waits), answer in zip(batch, answers, strict=True):
            if waits.done():
                continue
            if isinstance(answer, Exception):
                waits.set_exception(answer)
            else:
                waits.set_result(answer)

    async def _submit_all(
        self, customer_id: UUID, tier: Tier, batch: Sequence[Waiting]
    ) -> Sequence[store.Submitted | Exception]:
        if not batch:
            return []
        async with self._connect() as connection:
            many = [one for _, one, _ in batch]
            return await store.submit_all(
                connection, customer_id, tier, many, now=self._now(), estimates=self._estimates
            )
