"""`Idempotency-Key`: the same write again within a day gets the reply of the first one, and is not done twice.

A write that fails frees its key; one that a crash cut off frees it after a while. Who has the key is the account: nobody gets
somebody else's reply.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

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
ABANDONED_S = 60
KEPT_H = 24
_CLAIM = """
    insert into idempotent_replies (owner, key, request_digest) values (%(owner)s, %(key)s, %(digest)s)
    on conflict (owner, key) do nothing returning key"""
_FREE_ABANDONED = """
    delete from idempotent_replies
    where owner = %(owner)s and key = %(key)s and status is null
      and created_at < now() - make_interval(secs => %(abandoned)s)"""
_KNOWN = "select request_digest, status, reply from idempotent_replies where owner = %(owner)s and key = %(key)s"
_KEEP = "update idempotent_replies set status = %(status)s, reply = %(reply)s where owner = %(owner)s and key = %(key)s"
_FREE = "delete from idempotent_replies where owner = %(owner)s and key = %(key)s and status is null"
FORGET = "delete from idempotent_replies where created_at < now() - make_interval(hours => %s)"


async def once(
    api: Api,
    principal: Principal,
    key: str | None,
    body: BaseModel,
    status: int,
    do: Callable[[], Awaitable[BaseModel]],
) -> JSONResponse:
    """The reply of a write; with a key, of the first one that had it.

    Raises:
        ProblemError: 422 the key was another request's, 409 the first request is still at work.
    """
    if key is None:
        return JSONResponse((await do()).model_dump(mode="json"), status)
    said = f"{type(body).__name__} {body.model_dump_json()}"
    names = {"owner": principal.account, "key": key, "digest": hashlib.sha256(said.encode()).digest()}
    known = await _claim(api, names)
    if known is not None:
        return known
    try:
        reply = (await do()).model_dump(mode="json")
        await _run(api, _KEEP, names | {"status": status, "reply": Jsonb(reply)})
    except BaseException:
        await _run(api, _FREE, names)
        raise
    return JSONResponse(reply, status)


async def _claim(api: Api, names: dict[str, Any]) -> JSONResponse | None:
    """None where the key is ours now; else what there was."""
    await _run(api, _FREE_ABANDONED, names | {"abandoned": ABANDONED_S})
    if await api.fetch(_CLAIM, names):
        return None
    rows = await api.fetch(_KNOWN, names)
    if rows and bytes(rows[0][0]) != names["digest"]:
        raise ProblemError(422, "header.Idempotency-Key: it was another request's: take a new key for a new request")
    if not rows or rows[0][1] is None:
        raise ProblemError(409, "the first request with this key is still at work", {"Retry-After": "1"})
    return JSONResponse(rows[0][2], rows[0][1], {"Idempotent-Replayed": "true"})


async def _run(api: Api, statement: Any, names: dict[str, Any]) -> None:
    async with api.connection() as connection:
        await connection.execute(statement, names)
