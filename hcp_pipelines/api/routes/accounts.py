"""Accounts and customers, for admins; and the audit log of what everybody did."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from hcp_pipelines.api.asked import Body
from hcp_pipelines.api.idempotency import Connection, IdempotencyKey, once
from hcp_pipelines.api.paging import After, Limit, key_of, page
from hcp_pipelines.api.principals import Admin
from hcp_pipelines.api.routes.auth import Done
from hcp_pipelines.api.state import api_of
from hcp_pipelines.operators import users
from hcp_pipelines.operators.passwords import LONGEST, SHORTEST
from hcp_pipelines.operators.users import UserRole

router = APIRouter(prefix="/api/v1", tags=["accounts"])
NEWEST = 2**63 - 1
_AUDIT = """
    select id, recorded_at, actor, action, subject, detail from audit_log
    where id < %(before)s and (%(actor)s::text is null or actor = %(actor)s)
      and (%(action)s::text is null or action = %(action)s)
    order by id desc limit %(limit)s"""


class NewUser(Body):
    """An account to make."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._@+-]{0,99}$", examples=["ann@example.com"])
    role: UserRole = Field(examples=["customer"])
    password: str = Field(min_length=SHORTEST, max_length=LONGEST, examples=["correct horse battery staple"])
    customer_id: UUID | None = Field(default=None, examples=["7b0e1c1e-6a0e-4c5e-9d55-0d4f5f6a7b8c"])


class Made(BaseModel):
    """What was made."""

    id: UUID = Field(examples=["c1d2e3f4-0516-4738-92a4-b5c6d7e8f901"])


class User(BaseModel):
    """An account as listed."""

    id: UUID = Field(examples=["c1d2e3f4-0516-4738-92a4-b5c6d7e8f901"])
    name: str = Field(examples=["ann@example.com"])
    role: UserRole = Field(examples=["customer"])
    customer_id: UUID | None = Field(examples=["7b0e1c1e-6a0e-4c5e-9d55-0d4f5f6a7b8c"])
    is_password_generated: bool = Field(examples=[False], description="And never changed.")
    created_by: str = Field(examples=["admin"])
    created_at: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    disabled_at: datetime | None = Field(examples=[None])


class Users(BaseModel):
    """Accounts by name."""

    items: list[User]
    next: str | None = Field(examples=["WyJhbm5AZXhhbXBsZS5jb20iXQ"])


class NewCustomer(Body):
    """A customer to make."""

    name: str = Field(min_length=1, max_length=200, examples=["Acme AI"])
    email: str = Field(pattern=r"^[^@\s]{1,64}@[^@\s]{1,190}$", examples=["ops@acme.example"])
    tier: Literal["free", "pro", "enterprise"] = Field(examples=["pro"])


class Customer(BaseModel):
    """A customer as listed."""

    id: UUID = Field(examples=["7b0e1c1e-6a0e-4c5e-9d55-0d4f5f6a7b8c"])
    name: str = Field(examples=["Acme AI"])
    email: str = Field(examples=["ops@acme.example"])
    tier: str = Field(examples=["pro"])
    created_at: datetime = Field(examples=["2026-01-05T12:00:00Z"])


class Customers(BaseModel):
    """Customers by e-mail address."""

    items: list[Customer]
    next: str | None = Field(examples=["WyJvcHNAYWNtZS5leGFtcGxlIl0"])


class Noted(BaseModel):
    """Who did, or tried, what to what."""

    id: int = Field(examples=[4711])
    recorded_at: datetime = Field(examples=["2026-01-05T12:00:00Z"])
    actor: str = Field(examples=["ann"])
    action: str = Field(examples=["user.added"])
    subject: str = Field(examples=["bob"])
    detail: dict[str, Any] = Field(examples=[{"role": "viewer"}])


class Audit(BaseModel):
    """The audit log, newest first."""

    items: list[Noted]
    next: str | None = Field(examples=["WzQ3MTFd"])


@router.post("/users", status_code=201, response_model=Made)
async def make_user(body: NewUser, principal: Admin, request: Request, key: IdempotencyKey = None) -> JSONResponse:
    """Make an account; with role customer, of a customer."""

    def do(connection: Connection) -> Made:
        made = users.add_user(connection, body.name, body.role, body.password, principal.name, body.customer_id)
        return Made(id=made)

    return await once(api_of(request), principal, key, body, 201, do)


@router.get("/users")
async def list_users(_: Admin, request: Request, limit: Limit = 50, after: After = None) -> Users:
    """Accounts by name, disabled ones too."""
    behind = key_of(after, (str,))[0] if after else ""
    rows = await api_of(request).blocking(lambda c: users.list_users(c, behind, limit + 1))
    shown, more = page(rows, limit, lambda row: [row.name])
    return Users(items=[User.model_validate(one, from_attributes=True) for one in shown], next=more)


@router.post("/users/{user_id}/disable")
async def disable_user(user_id: Annotated[UUID, Path()], principal: Admin, request: Request) -> Done:
    """Close an account: neither password, sessions nor keys open anything."""
    await api_of(request).blocking(lambda c: users.disable_user(c, user_id, principal.name))
    return Done()


@router.post("/customers", status_code=201, response_model=Made)
async def make_customer(
    body: NewCustomer, principal: Admin, request: Request, key: IdempotencyKey = None
) -> JSONResponse:
    """Make a customer; their accounts are made with `POST /users`."""

    def do(connection: Connection) -> Made:
        return Made(id=users.add_customer(connection, body.name, body.email, body.tier, principal.name))

    return await once(api_of(request), principal, key, body, 201, do)


@router.get("/customers")
async def list_customers(_: Admin, request: Request, limit: Limit = 50, after: After = None) -> Customers:
    """Customers by e-mail address."""
    behind = key_of(after, (str,))[0] if after else ""
    rows = await api_of(request).blocking(lambda c: users.list_customers(c, behind, limit + 1))
    shown, more = page(rows, limit, lambda row: [row.email])
    return Customers(items=[Customer.model_validate(one, from_attributes=True) for one in shown], next=more)


@router.get("/audit")
async def audit(
    _: Admin,
    request: Request,
    actor: Annotated[str | None, Query(max_length=200, examples=["ann"])] = None,
    action: Annotated[str | None, Query(max_length=200, examples=["user.added"])] = None,
    limit: Limit = 50,
    after: After = None,
) -> Audit:
    """What was done and tried, newest first."""
    before = key_of(after, (int,))[0] if after else NEWEST
    names = {"before": before, "actor": actor, "action": action, "limit": limit + 1}
    rows = await api_of(request).fetch(_AUDIT, names)
    shown, more = page(rows, limit, lambda row: [row[0]])
    fields = ("id", "recorded_at", "actor", "action", "subject", "detail")
    return Audit(items=[Noted(**dict(zip(fields, row, strict=True))) for row in shown], next=more)
