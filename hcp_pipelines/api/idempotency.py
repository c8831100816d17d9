"""`Idempotency-Key`: the same write again within a day gets the reply of the first one, and is not done twice.

The key, what is done and the reply are one transaction: a write that fails or is cut off leaves none of them, and one whose
reply can't be kept is not done. Who has the key is the account: nobody gets somebody else's reply.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Annotated, Any

import psycopg
from fastapi import Header
from psycopg.types.json import Jsonb
from pydantic import BaseModel
from starlette.responses import JSONResponse

from hcp_pipelines.api.principals import Principal
from hcp_pipelines.api.problems import ProblemError
from hcp_pipelines.api.state import Api

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,200}$",
        description="The same write with the same key is done once; the reply is kept for a day.",
        examples=["9f2c7d1e-nightly"],
    ),
]
Connection = psycopg.Connection[Any]
KEPT_H = 24
_WAIT_FOR_FIRST = "set local lock_timeout = '1s'"
_WAIT_AS_EVER = "set local lock_timeout = default"
_CLAIM = """
    insert into idempotent_replies (owner, key, request_digest) values (%(owner)s, %(key)s, %(digest)s)
    on conflict (owner, key) do nothing returning key"""
_KNOWN = "select request_digest, status, reply from idempotent_replies where owner = %(owner)s and key = %(key)s"
_KEEP = "update idempotent_replies set status = %(status)s, reply = %(reply)s where owner = %(owner)s and key = %(key)s"
FORGET = "delete from idempotent_replies where created_at < now() - make_interval(hours => %s)"


async def once(
    api: Api,
    principal: Principal,
    key: str | None,
    body: BaseModel,
    status: int,
    do: Callable[[Connection], BaseModel],
) -> JSONResponse:
    """The reply of a write; with a key, of the first one that had it.

    Raises:
        ProblemError: 422 the key was another request's, 409 the first request is still at work.
    """
    if key is None:
        return JSONResponse((await api.blocking(do)).model_dump(mode="json"), status)
    said = f"{type(body).__name__} {body.model_dump_json()}"  # it may hold a password: none without the pepper can try some
    names = {"owner": principal.account, "key": key, "digest": hmac.digest(api.pepper, said.encode(), hashlib.sha256)}
    return await api.blocking(lambda connection: _once(connection, names, status, do))


def _once(
    connection: Connection, names: dict[str, Any], status: int, do: Callable[[Connection], BaseModel]
) -> JSONResponse:
    with connection.transaction():
        if not _is_first(connection, names):
            return _replayed(connection, names)
        reply = do(connection).model_dump(mode="json")
        connection.execute(_KEEP, names | {"status": status, "reply": Jsonb(reply)})
    return JSONResponse(reply, status)


def _is_first(connection: Connection, names: dict[str, Any]) -> bool:
    """Whether the key is ours now; who comes while the first is at work waits for a moment."""
    try:
        connection.execute(_WAIT_FOR_FIRST)
        is_first = connection.execute(_CLAIM, names).fetchone() is not None
        connection.execute(_WAIT_AS_EVER)
    except psycopg.errors.LockNotAvailable:
        raise ProblemError(409, "the first request with this key is still at work", {"Retry-After": "1"}) from None
    return is_first


def _replayed(connection: Connection, names: dict[str, Any]) -> JSONResponse:
    row = connection.execute(_KNOWN, names).fetchone()
    if row is None:  # it was a day old, and has gone this moment
        raise ProblemError(409, "the reply of this key is being forgotten", {"Retry-After": "1"})
    if not hmac.compare_digest(bytes(row[0]), names["digest"]):
        raise ProblemError(422, "header.Idempotency-Key: it was another request's: take a new key for a new request")
    return JSONResponse(row[2], row[1], {"Idempotent-Replayed": "true"})
