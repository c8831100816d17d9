"""Whose a key or token is: asked of Postgres, and remembered for some seconds. Forgotten at once where an account changes.

Postgres announces each change (`hcp_account`). What was asked before a change and answered after it is not remembered, and
nothing is while the announcements can't be heard.
"""

import asyncio
import hmac
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from hcp_pipelines.api.principals import Principal, bearer_of
from hcp_pipelines.api.tokens import Claims, SigningKeys
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.operators.api_keys import digest, prefix_of
from hcp_pipelines.operators.users import UserRole
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.notify import Listener
from hcp_pipelines.storage.roles import Role

CHANNEL = "hcp_account"
OPERATOR = "operator/"
REMEMBERED_S = 10.0
TOKEN_REMEMBERED_S = 1.0  # its end is in itself
MOST = 10_000
Kept = TypeVar("Kept")
_OF_KEY = """
    select u.id, u.name, u.role, u.customer_id, c.tier, k.digest, k.expires_at, k.id
    from api_keys k join users u on u.id = k.user_id left join customers c on c.id = u.customer_id
    where k.prefix = %s and k.revoked_at is null and u.disabled_at is null"""
_OF_USER = """
    select u.id, u.name, u.role, u.customer_id, c.tier, u.session_version
    from users u left join customers c on c.id = u.customer_id where u.id = %s and u.disabled_at is null"""
_OF_OPERATOR = "select name, role from operators where name = %s and disabled_at is null"


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    until_s: float
    ends_at: datetime | None


class KnownAccounts:
    """Accounts by what they show."""

    def __init__(
        self, settings: Settings, clock: SystemClock, pool: AsyncConnectionPool, keys: SigningKeys, pepper: bytes
    ) -> None:
        self._clock, self._pool, self._keys, self._pepper = clock, pool, keys, pepper
        self._listener = Listener(settings, Role.API, [CHANNEL])
        self._held: OrderedDict[str, _Remembered] = OrderedDict()
        self._familiar: OrderedDict[str, None] = OrderedDict()
        self._changes = 0
        self._asked: dict[str, tuple[int, asyncio.Future[Principal | None]]] = {}

    async def follow(self, stop: asyncio.Event) -> None:
        """Hear of changes until told to stop."""
        async with self._listener:
            while not stop.is_set():
                was_connected = self._listener.is_connected
                if await self._listener.wait() or not was_connected or not self._listener.is_connected:
                    self._changes += 1
                    self._held.clear()

    def remembered(self, given: str) -> Principal | None:
        """Whose it is, as far as that is remembered."""
        held = self._held.get(given)
        if held is None or not self._listener.is_connected:
            return None
        if held.until_s <= self._clock.monotonic_s() or _is_past(held.ends_at, self._clock.real_now()):
            del self._held[given]
            return None
        return held.principal

    def caller_of(self, authorization: str) -> str | None:
        """Whose an `Authorization` is as far as that takes no asking: an account, or what was given; None: nobody known."""
        given = bearer_of(authorization)
        held = self.remembered(given) if given else None
        if held is not None:
            return held.account
        return given if given and self.is_familiar(given) else None

    def is_familiar(self, given: str) -> bool:
        """Whether it is no guess, revoked or not: a token that we have signed, or a key that has once opened something."""
        return given in self._familiar or self._keys.read(given, self._clock.real_now()) is not None

    async def look_up(self, given: str) -> Principal | None:
        """Whose it is; None where it opens nothing. Who asks at once of the same shares the answer, if nothing changed since."""
        changes, asked = self._asked.get(given, (-1, None))
        if asked is None or changes != self._changes:
            asked = asyncio.ensure_future(self._look_up(given))
            self._asked[given] = (self._changes, asked)
            asked.add_done_callback(lambda done: self._forget(given, done))
        return await asyncio.shield(asked)

    def _forget(self, given: str, done: "asyncio.Future[Principal | None]") -> None:
        if self._asked.get(given, (0, None))[1] is done:
            del self._asked[given]
        if not done.cancelled():
            done.exception()  # whoever waited has it; nobody may have

    async def _look_up(self, given: str) -> Principal | None:
        changes = self._changes
        prefix = prefix_of(given)
        if prefix is not None:
            found, ends_at = await self._of_key(given, prefix)
        else:
            found, ends_at = await self._of_token(given), None
        if found is not None and prefix is not None:
            _keep(self._familiar, given, None)
        if found is not None and changes == self._changes and found.user_id is not None:
            until_s = self._clock.monotonic_s() + (REMEMBERED_S if prefix else TOKEN_REMEMBERED_S)
            _keep(self._held, given, _Remembered(found, until_s, ends_at))
        return found

    async def _of_key(self, given: str, prefix: str) -> tuple[Principal | None, datetime | None]:
        row = await self._row(_OF_KEY, prefix)
        if row is None or not hmac.compare_digest(bytes(row[5]), digest(given, self._pepper)):
            return None, None
        if _is_past(row[6], self._clock.real_now()):
            return None, None
        return replace(_principal(row), key_id=row[7]), row[6]

    async def _of_token(self, given: str) -> Principal | None:
        claims = self._keys.read(given, self._clock.real_now())
        if claims is None:
            return None
        if claims.account.startswith(OPERATOR):
            return await self._of_operator(claims)
        try:
            row = await self._row(_OF_USER, UUID(claims.account.removeprefix("user/")))
        except ValueError:
            return None
        return None if row is None or row[5] != claims.version else _principal(row)

    async def _of_operator(self, claims: Claims) -> Principal | None:
        """Asked each time: nothing announces that an operator was disabled."""
        row = await self._row(_OF_OPERATOR, claims.account.removeprefix(OPERATOR))
        return None if row is None else Principal(OPERATOR + row[0], row[0], UserRole(row[1]), "staff")

    async def _row(self, statement: Any, value: object) -> tuple[Any, ...] | None:
        async with self._pool.connection() as connection:
            return await (await connection.execute(statement, (value,))).fetchone()


def _keep(held: OrderedDict[str, Kept], name: str, value: Kept) -> None:
    held[name] = value
    held.move_to_end(name)
    while len(held) > MOST:
        held.popitem(last=False)


def _principal(row: tuple[Any, ...]) -> Principal:
    return Principal(f"user/{row[0]}", row[1], UserRole(row[2]), row[4] or "staff", row[3], row[0])


def _is_past(ends_at: datetime | None, now: datetime) -> bool:
    return ends_at is not None and ends_at <= now
