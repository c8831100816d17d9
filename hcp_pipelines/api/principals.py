"""Who asks, and what they may: accounts as requests see them, and the rule that each endpoint has.

An endpoint without a rule makes the app refuse to start (`refuse_unruled`).
"""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from hcp_pipelines.api.asked import refuse_unknown
from hcp_pipelines.api.limits import address_of
from hcp_pipelines.api.problems import ProblemError
from hcp_pipelines.api.state import Api, api_of
from hcp_pipelines.operators.audit import comes_by
from hcp_pipelines.operators.users import UserRole

CHALLENGE = {"WWW-Authenticate": "Bearer"}
STAFF = frozenset({UserRole.VIEWER, UserRole.OPERATOR, UserRole.ADMIN})
SUBMITTING = frozenset({UserRole.CUSTOMER, UserRole.OPERATOR, UserRole.ADMIN})
EVERYBODY = frozenset(UserRole)
ORDERING = frozenset({UserRole.OPERATOR, UserRole.ADMIN})
ADMINS = frozenset({UserRole.ADMIN})


@dataclass(frozen=True, slots=True)
class Principal:
    """An account that has proved to be itself. `user_id` is None for an operator with a token file."""

    account: str
    name: str
    role: UserRole
    tier: str
    customer_id: UUID | None = None
    user_id: UUID | None = None
    key_id: UUID | None = None  # where it asks with a key

    def own_user(self) -> UUID:
        """The user's id.

        Raises:
            ProblemError: an operator's account is kept by `hcp operator`.
        """
        if self.user_id is None:
            raise ProblemError(403, f"{self.name} is an operator with a token file: `hcp operator` keeps that account")
        return self.user_id


class Rule:
    """Which roles may; None: anybody, without an account. A dependency of each endpoint."""

    def __init__(self, roles: frozenset[UserRole] | None) -> None:
        self.roles = roles

    async def __call__(self, request: Request) -> Principal | None:
        """The account that asks.

        Raises:
            ProblemError: 401 unknown, 403 not in this role, 429 too often, 400 a parameter that there is not.
        """
        api, told = api_of(request), request.scope["state"]
        comes_by(request_id=told["request_id"], address=_address(request))
        if self.roles is None:
            _take(api, request, "address/" + _address(request), "anonymous")
            return None
        principal = await _authenticated(api, request)
        told["account"] = principal.account
        if (again_after_s := await told["recognised"](principal.account)) is not None:
            raise ProblemError(503, "as many requests as may are under way", {"Retry-After": str(again_after_s)})
        if not told["is_known"]:
            principal = await _authenticated(api, request)  # it may have stood in line, and been revoked meanwhile
        _take(api, request, principal.account, principal.tier)
        if principal.role not in self.roles:
            allowed = ", ".join(sorted(self.roles))
            raise ProblemError(403, f"this takes the role {allowed}; {principal.name} is {principal.role}")
        refuse_unknown(request)
        comes_by(request_id=told["request_id"], address=_address(request), by_role=principal.role.value)
        return principal


def needs(roles: frozenset[UserRole]) -> Any:
    """The dependency that gives the account, for a parameter's annotation."""
    return Depends(Rule(roles))


ANYBODY = Depends(Rule(None))
Everybody = Annotated[Principal, needs(EVERYBODY)]
Staff = Annotated[Principal, needs(STAFF)]
Submitting = Annotated[Principal, needs(SUBMITTING)]
Ordering = Annotated[Principal, needs(ORDERING)]
Admin = Annotated[Principal, needs(ADMINS)]


def bearer_of(authorization: str) -> str | None:
    """The key or token of an `Authorization: Bearer …`; None where it is none."""
    scheme, _, given = authorization.partition(" ")
    return given or None if scheme.lower() == "bearer" else None


def rule_of(route: RouteContext) -> Rule | None:
    """The rule of an endpoint; None where it has none."""
    calls = (dependency.call for dependency in route.dependant.dependencies)
    return next((call for call in calls if isinstance(call, Rule)), None)


def refuse_unruled(app: FastAPI) -> None:
    """Raise where an endpoint says nothing of who may."""
    routes = routes_of(app)
    if not routes:
        raise TypeError("no endpoint is found: nobody knows then whether each has a rule")
    for route in routes:
        if rule_of(route) is None:
            raise TypeError(f"{sorted(route.methods or ())} {route.path}: an endpoint needs a rule of who may")


def routes_of(app: FastAPI) -> list[RouteContext]:
    """All endpoints, as they stand in the app."""
    return [one for one in iter_route_contexts(app.routes) if isinstance(one.original_route, APIRoute)]


async def _authenticated(api: Api, request: Request) -> Principal:
    given = bearer_of(request.headers.get("authorization", ""))
    if given is None:
        raise _unknown(api, request, "this needs `Authorization: Bearer …`: a key, or a token of /api/v1/auth/login")
    principal = api.accounts.remembered(given)
    if principal is None:
        if not api.accounts.is_familiar(given):
            _refuse_guessing(api, request)
        principal = await api.accounts.look_up(given)
    if principal is None:
        raise _unknown(api, request, "the key or token is not known, has ended, or was revoked")
    return principal


def _unknown(api: Api, request: Request, detail: str) -> ProblemError:
    """401, counted against the address: who guesses is soon kept waiting."""
    taken = api.take("guess/" + _address(request), "anonymous")
    request.scope["state"]["headers"] = taken.headers()
    return ProblemError(401, detail, CHALLENGE) if taken.is_allowed else _too_often(taken.headers())


def _refuse_guessing(api: Api, request: Request) -> None:
    taken = api.take("guess/" + _address(request), "anonymous", tokens=0)
    if not taken.is_allowed:
        raise _too_often(taken.headers())


def _take(api: Api, request: Request, name: str, tier: str) -> None:
    taken = api.take(name, tier)
    request.scope["state"]["headers"] = taken.headers()
    if not taken.is_allowed:
        raise _too_often(taken.headers())


def _too_often(headers: dict[str, str]) -> ProblemError:
    return ProblemError(429, f"try again in {headers['Retry-After']} s", headers)


def _address(request: Request) -> str:
    return address_of(request.client.host if request.client else None)
