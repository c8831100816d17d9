"""The application: its endpoints, errors and description put together. Serving it is `service`'s."""

from importlib import metadata
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from hcp_pipelines.api import problems
from hcp_pipelines.api.asked import know_parameters
from hcp_pipelines.api.frame import Frame
from hcp_pipelines.api.principals import ANYBODY, refuse_unruled, routes_of, rule_of
from hcp_pipelines.api.proxies import Proxies, networks
from hcp_pipelines.api.routes import (
    accounts,
    allocations,
    auth,
    decisions,
    economic,
    events,
    facilities,
    health,
    prices,
    resources,
    workloads,
)
from hcp_pipelines.api.state import Api

SUMMARY = "What runs where and why, what it earns, and work for it."
ROUTERS = (  # in the order in which they are tried: what is asked for most stands first
    events.router,  # before what takes any name of a workload
    workloads.router,
    health.router,
    auth.router,
    accounts.router,
    allocations.router,  # before what takes any name there
    resources.router,
    prices.router,
    economic.router,
    facilities.router,
    decisions.router,
)
_PROBLEM = {"content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def build_app(api: Api) -> FastAPI:
    """The application over what it is given."""
    app = FastAPI(
        title="HCP",
        version=metadata.version("hcp"),
        summary=SUMMARY,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url=None,  # `_describe`: with a limit as everything has
        responses={"4XX": _problem("What was wrong with the request."), "5XX": _problem("What was wrong here.")},
        redirect_slashes=False,
    )
    app.state.api = api
    for router in ROUTERS:
        app.include_router(router)
    app.add_api_route("/openapi.json", _describe, dependencies=[ANYBODY], include_in_schema=False)
    problems.install(app)
    refuse_unruled(app)
    know_parameters(app, routes_of(app))
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    origins = [origin.strip() for origin in api.settings.api_cors_origins.split(",") if origin.strip()]
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"],
            expose_headers=["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", "X-Request-ID"],
        )
    return app


def framed(app: FastAPI, is_tls: bool) -> ASGIApp:
    """The application as it is served."""
    api: Api = app.state.api
    proxies = Proxies(networks(api.settings.api_trusted_proxies))
    return Frame(app, api.clock, api.log, is_tls, api.accounts.caller_of, proxies)


async def _describe(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, **_PROBLEM}


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with the problem's schema, how one logs in, and each endpoint's roles."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    body = problems.ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= body.pop("$defs")
    schemas["Problem"] = body
    parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT or API key"}}
    for route in routes_of(app):
        rule = rule_of(route)
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format or "", {}).get(method.lower())
            if operation is not None and rule is not None and rule.roles is not None:
                operation["security"] = [{"bearer": []}]
                operation["x-roles"] = sorted(rule.roles)
    app.openapi_schema = document
    return document
