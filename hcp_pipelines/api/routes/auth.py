"""Logging in and out, one's own account, password and API keys."""

import asyncio
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import psycopg
from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field, field_validator

from hcp_pipelines.api import metrics
from hcp_pipelines.api.asked import Body
from hcp_pipelines.api.known import OPERATOR
from hcp_pipelines.api.limits import address_of
from hcp_pipelines.api.principals import ANYBODY, Everybody
from hcp_pipelines.api.problems import ProblemError
from hcp_pipelines.api.state import Api, api_of
from hcp_pipelines.api.tokens import Claims
from hcp_pipelines.domain.given import number_given
from hcp_pipelines.operators import api_keys, users
from hcp_pipelines.operators.audit import note
from hcp_pipelines.operators.passwords import LONGEST, SHORTEST, is_right
from hcp_pipelines.operators.users import UserRole

router = APIRouter(prefix="/api/v1/auth", tags=["auth"])
_USER = "select id, password_hash, session_version, role from users where name = %s and disabled_at is null"
_OPERATOR = "select token_sha256, role from operators where name = %s and disabled_at is null"


class LogIn(Body):
    """Name and password; an operator with a token file gives that token (docs/operators.md)."""

    name: str = Field(min_length=1, max_length=100, examples=["ann@example.com"])
    password: str = Field(min_length=1, max_length=LONGEST, examples=["correct horse battery staple"])


class Session(BaseModel):
    """What a log-in gives."""

    access_token: str = Field(examples=["eyJhbGciOiJIUzI1NiIsImtpZCI6IjFhMmIzYzRkIn0.…"])
    token_type: str = Field(default="bearer", examples=["bearer"])
    expires_at: datetime = Field(examples=["2026-01-05T12:15:00Z"])
    role: UserRole = Field(examples=["operator"])


class Own(BaseModel):
    """The account that asks."""

    name: str = Field(examples=["ann@example.com"])
    role: UserRole = Field(examples=["customer"])
    tier: str = Field(examples=["pro"], description="Whose request limits hold.")
    customer_id: UUID | None = Field(examples=["7b0e1c1e-6a0e-4c5e-9d55-0d4f5f6a7b8c"])


class NewPassword(Body):
    """The old password and the new one."""

    password: str = Field(min_length=1, max_length=LONGEST, examples=["correct horse battery staple"])
    revoke_keys: bool = Field(
        default=False, strict=True, examples=[True], description="Whether all keys are revoked, too."
    )
    new_password: str = Field(min_length=SHORTEST, max_length=LONGEST, examples=["staple battery horse correct"])


class NewKey(Body):
    """A key to make."""

    name: str = Field(min_length=1, max_length=100, examples=["nightly batch"])
    days: int | None = Field(default=None, ge=1, le=3650, description="It expires then, or never.", examples=[90])
    _numbers = field_validator("days", mode="before")(number_given)


class Key(BaseModel):
    """A key as listed."""

    id: UUID = Field(examples=["b0c1d2e3-f405-4617-8293-a4b5c6d7e8f9"])
    name: str = Field(examples=["nightly batch"])
    prefix: str = Field(examples=["4f9c2a7be1d0"])
    created_at: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    expires_at: datetime | None = Field(examples=["2026-04-05T12:00:00Z"])
    revoked_at: datetime | None = Field(examples=[None])
    parent_id: UUID | None = Field(examples=[None], description="The key that it was made with.")


class MadeKey(Key):
    """A key just made, with the key itself: it is shown this once."""

    key: str = Field(examples=["hcp_4f9c2a7be1d0_00000000000000000000000000000000"])


class Keys(BaseModel):
    """One's keys, oldest first."""

    items: list[Key]


class Done(BaseModel):
    """It is done."""

    done: bool = Field(default=True, examples=[True])


@dataclass(frozen=True, slots=True)
class _Found:
    claims: Claims
    role: UserRole


@router.post("/login", dependencies=[ANYBODY])
async def log_in(body: LogIn, request: Request) -> Session:
    """A short-lived token for name and password.

    Tries are limited by address and account, and by address; many from everywhere slow those of where the account is not known.
    An unknown name costs the same work as a wrong password.
    """
    api, address = api_of(request), address_of(request.client.host if request.client else None)
    await asyncio.sleep(api.log_ins.tried(body.name, address, api.clock.monotonic_s()))
    found = await api.blocking(lambda connection: _proved(connection, body.name, body.password))
    if found is None:
        metrics.LOG_INS.labels("wrong").inc()
        raise ProblemError(401, "no such account, or another password", {"WWW-Authenticate": "Bearer"})
    metrics.LOG_INS.labels("ok").inc()
    api.log_ins.was_right(body.name, address)
    return _session(api, found)


@router.post("/logout")
async def log_out(principal: Everybody, request: Request) -> Done:
    """End all sessions of this account: tokens given out until now open nothing. Keys go on."""
    own = principal.own_user()
    await api_of(request).blocking(lambda c: users.end_sessions(c, own, principal.name))
    return Done()


@router.get("/me")
async def me(principal: Everybody) -> Own:
    """The account that asks."""
    return Own(name=principal.name, role=principal.role, tier=principal.tier, customer_id=principal.customer_id)


@router.put("/password")
async def change_password(body: NewPassword, principal: Everybody, request: Request) -> Done:
    """Another password; all sessions end, and keys where that is asked for."""
    api, own = api_of(request), principal.own_user()
    api.log_ins.password_tried(principal.account, api.clock.monotonic_s())
    if await api.blocking(lambda c: _proved(c, principal.name, body.password)) is None:
        raise ProblemError(403, "the present password is another one")
    await api.blocking(lambda c: _change(c, own, body, principal.name))
    return Done()


@router.get("/keys")
async def list_keys(principal: Everybody, request: Request) -> Keys:
    """This account's keys."""
    own = principal.own_user()
    found = await api_of(request).blocking(lambda c: api_keys.list_keys(c, own))
    return Keys(items=[Key.model_validate(one, from_attributes=True) for one in found])


@router.post("/keys", status_code=201)
async def make_key(body: NewKey, principal: Everybody, request: Request) -> MadeKey:
    """A key that acts as this account; it is shown this once. Made with a key it ends with that one, or before."""
    api, own = api_of(request), principal.own_user()
    key, made = await api.blocking(
        lambda c: api_keys.add_key(c, api.pepper, own, body.name, body.days, principal.name, principal.key_id)
    )
    return MadeKey(key=key, **Key.model_validate(made, from_attributes=True).model_dump())


@router.delete("/keys/{key_id}")
async def revoke_key(key_id: Annotated[UUID, Path()], principal: Everybody, request: Request) -> Done:
    """The key opens nothing from now on, nor do those that were made with it."""
    own = principal.own_user()
    await api_of(request).blocking(lambda c: api_keys.revoke_key(c, key_id, own, principal.name))
    return Done()


def _proved(connection: psycopg.Connection[Any], name: str, password: str) -> _Found | None:
    """Who has proved to be this account; a refused try is kept in the audit log."""
    user = connection.execute(_USER, (name,)).fetchone()
    operator = None if user else connection.execute(_OPERATOR, (name,)).fetchone()
    is_user = is_right(user[1] if user else None, password)  # the same work, whoever it is
    if user is not None and is_user:
        return _Found(Claims(f"user/{user[0]}", user[2]), UserRole(user[3]))
    if operator is not None and hmac.compare_digest(operator[0], hashlib.sha256(password.encode()).hexdigest()):
        return _Found(Claims(OPERATOR + name, 0), UserRole(operator[1]))
    note(connection, "api", "login.refused", name)
    return None


def _change(connection: psycopg.Connection[Any], user_id: UUID, body: NewPassword, by: str) -> None:
    with connection.transaction():
        users.set_password(connection, user_id, body.new_password, by)
        if body.revoke_keys:
            api_keys.revoke_keys(connection, user_id, by)


def _session(api: Api, found: _Found) -> Session:
    now, life_s = api.clock.real_now(), api.settings.api_token_s
    token = api.keys.issue(found.claims, now, life_s)
    return Session(access_token=token, expires_at=now + timedelta(seconds=life_s), role=found.role)
