"""Port 9401 of a node: the agent's control API, version 1 (docs/gpu-agent.md). Reads are open, writes need the bearer token.

Only what HTTP is about: routes, bodies and their bounds, tokens, problem documents. What a write does is in `planning`.
"""

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from simulators.clock import Clock
from simulators.gpus.agents import Agents
from simulators.gpus.documents import gpu_document, node_document
from simulators.gpus.problems import ProblemError, bad_request
from simulators.gpus.requests import SCHEMAS, parse
from simulators.gpus.workloads import Operation

MAX_BODY_BYTES = 16 * 1024
BODY_WITHIN_S = 5.0  # real seconds
MAX_WAIT_S = 30.0  # real: so long an answer about an operation may wait for its end
LEAST_WAIT_S = 0.001
PATHS = {
    "start": "/v1/workloads/start",
    "pause": "/v1/workloads/pause",
    "checkpoint": "/v1/workloads/checkpoint",
    "resume": "/v1/workloads/resume",
    "stop": "/v1/workloads/stop",
    "power-cap": "/v1/gpus/power-cap",
    "reset": "/v1/gpus/reset",
    "drain": "/v1/node/drain",
    "undrain": "/v1/node/undrain",
    "reboot": "/v1/node/reboot",
}

log = logging.getLogger("world.gpus")

Handler = Callable[[Request], Awaitable[Response]]


class AgentApi:
    """The agents of all nodes over HTTP."""

    def __init__(self, agents: Agents, clock: Clock, token: str) -> None:
        self._agents = agents
        self._clock = clock
        self._token = token.encode()

    def app(self) -> Starlette:
        """The ASGI application."""
        reads: dict[str, Handler] = {
            "/v1/node": self._node,
            "/v1/gpus": self._gpus,
            "/v1/workloads": self._workloads,
            "/v1/operations": self._operations,
            "/v1/operations/{identity:str}": self._operation,
        }
        routes = [Route(path, _guarded(handler), methods=["GET"]) for path, handler in reads.items()]
        routes += [Route(PATHS[kind], _guarded(self._write(kind)), methods=["POST"]) for kind in SCHEMAS]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_problem})

    async def _node(self, request: Request) -> Response:
        agent = self._agents.at(request.scope["server"][0])
        return _json(node_document(agent, self._clock.now_s()))

    async def _gpus(self, request: Request) -> Response:
        agent, now_s = self._agents.at(request.scope["server"][0]), self._clock.now_s()
        workloads = agent.workloads(now_s)
        gpus = [gpu_document(agent, gpu, workloads, now_s) for gpu in agent.node.gpus]
        return _json({"gpus": gpus, "is_drained": agent.is_drained})

    async def _workloads(self, request: Request) -> Response:
        agent = self._agents.at(request.scope["server"][0])
        return _json({"workloads": [one.document() for one in agent.workloads(self._clock.now_s())]})

    async def _operations(self, request: Request) -> Response:
        agent = self._agents.at(request.scope["server"][0])
        return _json({"operations": [one.document() for one in reversed(agent.operations.values())]})

    async def _operation(self, request: Request) -> Response:
        agent = self._agents.at(request.scope["server"][0])
        operation = agent.operations.get(request.path_params["identity"])
        if operation is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-operation", "unknown, or ended long ago")
        await self._wait(request, operation)
        return _json(operation.document())

    async def _wait(self, request: Request, operation: Operation) -> None:
        """Until an operation has ended, or as long as the caller waits."""
        try:
            wait_s = min(float(request.query_params.get("wait_s", "0")), MAX_WAIT_S)
        except ValueError:
            raise bad_request("wait_s: a number of seconds is expected") from None
        if not wait_s > 0:
            return
        until_s = asyncio.get_running_loop().time() + wait_s
        while operation.state == "running" and (left_s := until_s - asyncio.get_running_loop().time()) > 0:
            due_s = max((operation.due_s - self._clock.now_s()) / self._clock.speed, LEAST_WAIT_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, due_s)):
                    await operation.is_over.wait()
            self._agents.at(request.scope["server"][0])  # its site has come to the present

    def _write(self, kind: str) -> Handler:
        async def handler(request: Request) -> Response:
            self._check_token(request)
            body = parse(kind, await _body(request))
            agent = self._agents.at(request.scope["server"][0])
            operation, is_new = self._agents.submit(agent, kind, body)
            status = HTTPStatus.ACCEPTED if is_new else HTTPStatus.OK
            return _json(operation.document(), status, {"Location": f"/v1/operations/{operation.operation_id}"})

        return handler

    def _check_token(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise ProblemError(HTTPStatus.UNAUTHORIZED, "token-missing", "a write needs Authorization: Bearer TOKEN")
        if not self._token or not hmac.compare_digest(given.strip().encode(), self._token):
            raise ProblemError(HTTPStatus.FORBIDDEN, "token-wrong", "this token may not write here")


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    detail = f"the body is over {MAX_BODY_BYTES} bytes"
                    raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", detail)
    except TimeoutError as error:
        detail = f"the body did not come within {BODY_WITHIN_S:.0f} s"
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, "body-too-slow", detail) from error
    return bytes(body)


def _guarded(handler: Handler) -> Handler:
    """Turn a refusal into its document, and a peer that left into silence."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except ProblemError as problem:
            return _problem(problem)
        except ClientDisconnect:
            log.warning("gpu agent: the peer left in the middle of %s", request.url.path)
            return Response(status_code=HTTPStatus.BAD_REQUEST)

    return guarded


async def _http_problem(_request: Request, error: Exception) -> Response:
    """What Starlette refuses itself: an unknown path, another method."""
    status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else 500)
    kind = status.phrase.lower().replace(" ", "-")
    return _problem(ProblemError(status, kind, f"{status.phrase}; the paths are listed in docs/gpu-agent.md"))


def _problem(problem: ProblemError) -> Response:
    headers = {"Content-Type": "application/problem+json"}
    if problem.status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT):
        headers["Connection"] = "close"
    return Response(orjson.dumps(problem.document()), int(problem.status), headers)


def _json(document: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), int(status), headers, media_type="application/json")
