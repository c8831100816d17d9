"""OpenADR 3.1 over HTTP, as a VEN sees it: a token, programs, events, its own reports. Business logic has no client here.

A client's ven and resources are in `belongings`. Errors are `problem` objects. A VEN reads and never writes programs and events;
an event that was cancelled is gone.
"""

import hmac
import secrets
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulators.openadr.belongings import Belongings
from simulators.openadr.config import OpenAdrConfig
from simulators.openadr.events import EventBook
from simulators.openadr.logins import NoTokenError, clients_in, credentials
from simulators.openadr.objects import (
    Json,
    WrongObjectError,
    event_object,
    program_name,
    program_object,
    report_of,
)
from simulators.openadr.reading import TooLargeError, read_body
from simulators.openadr.rest_parts import ProblemError, object_of, one, page
from simulators.openadr.times import Wall, stamp
from simulators.openadr.vens import Sample

BASE: Final = "/openadr3/3.1.0"
TOKEN_LIFE_S: Final = 3600
MAX_TOKENS: Final = 1000
MAX_REPORTS: Final = 1000
Handler = Callable[["RestVtn", Request, str], Awaitable[Response]]


class RestVtn:
    """The server's objects; what a client has made is its own alone."""

    def __init__(self, config: OpenAdrConfig, book: EventBook, wall: Wall, count: Callable[[str], None]) -> None:
        self._config = config
        self._book = book
        self._wall = wall
        self._count = count
        self._secrets = clients_in(config.client_file)
        self._tokens: dict[str, tuple[str, float]] = {}
        self._own = Belongings(self._made)
        self._reports: deque[tuple[str, Json]] = deque(maxlen=MAX_REPORTS)
        self.samples: dict[tuple[str, str], deque[Sample]] = {}  # by event and resource; kW

    def routes(self) -> list[Route]:
        """None where nobody may have a token."""
        if not self._secrets:
            return []
        asked: list[tuple[str, str, Handler]] = [
            ("GET", "/programs", RestVtn._list_programs),
            ("GET", "/programs/{id}", RestVtn._get_program),
            ("GET", "/events", RestVtn._list_events),
            ("GET", "/events/{id}", RestVtn._get_event),
            ("GET", "/reports", RestVtn._list_reports),
            ("GET", "/reports/{id}", RestVtn._get_report),
            ("POST", "/reports", RestVtn._post_report),
            ("GET", "/notifiers", RestVtn._notifiers),
            ("GET", "/subscriptions", RestVtn._no_subscriptions),
            ("POST", "/subscriptions", RestVtn._refuse_subscription),
        ]
        asked += [(method, path, _of(handler)) for method, path, handler in self._own.handlers()]
        routes = [
            Route(f"{BASE}{path}", self._authorised(handler), methods=[method]) for method, path, handler in asked
        ]
        forbidden = [Route(f"{BASE}{path}", self._forbidden, methods=["POST"]) for path in ("/programs", "/events")]
        return [
            Route(f"{BASE}/auth/server", self._server, methods=["GET"]),
            Route(f"{BASE}/auth/token", self._token, methods=["POST"]),
            *routes,
            *forbidden,
        ]

    def _authorised(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                return await handler(self, request, self._client_of(request))
            except ProblemError as problem:
                return self._problem(problem.status, problem.detail)
            except WrongObjectError as error:
                return self._problem(HTTPStatus.BAD_REQUEST, str(error))
            except TooLargeError as error:
                return self._problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
            except ClientDisconnect:
                return Response()

        return answer

    def _client_of(self, request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        client, ends_s = self._tokens.get(token, ("", 0.0))
        if scheme.lower() != "bearer" or self._wall.now_s() >= ends_s:
            raise ProblemError(HTTPStatus.UNAUTHORIZED, "a bearer token of /auth/token is needed")
        return client

    async def _server(self, request: Request) -> Response:
        return JSONResponse({"tokenURL": f"{request.url.scheme}://{request.url.netloc}{BASE}/auth/token"})

    async def _token(self, request: Request) -> Response:
        """OAuth 2 client credentials (RFC 6749, 4.4)."""
        try:
            client = self._who(request.headers.get("authorization"), await read_body(request))
        except NoTokenError as refusal:
            return self._no_token(refusal.error)
        except TooLargeError:
            return self._no_token("invalid_request")
        except ClientDisconnect:
            return Response()
        now_s = self._wall.now_s()
        self._tokens = {token: kept for token, kept in self._tokens.items() if now_s < kept[1]}
        while len(self._tokens) >= MAX_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (client, now_s + TOKEN_LIFE_S)
        reply = {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE_S, "scope": "read_targets"}
        return JSONResponse(reply, headers={"Cache-Control": "no-store"})

    def _who(self, authorization: str | None, form: bytes) -> str:
        """The client that says its secret.

        Raises:
            NoTokenError: none does.
        """
        for client, secret in credentials(authorization, form):
            if secret and hmac.compare_digest(self._secrets.get(client, "").encode(), secret.encode()):
                return client
        raise NoTokenError("invalid_client")

    def _no_token(self, error: str) -> Response:
        self._count(error)
        if error != "invalid_client":
            return JSONResponse({"error": error}, int(HTTPStatus.BAD_REQUEST))
        return JSONResponse(
            {"error": error}, int(HTTPStatus.UNAUTHORIZED), {"WWW-Authenticate": 'Basic realm="openadr"'}
        )

    async def _forbidden(self, _request: Request) -> Response:
        return self._problem(HTTPStatus.FORBIDDEN, "programs and events are not a VEN's to write")

    async def _list_programs(self, request: Request, _client: str) -> Response:
        return page(request, self._programs())

    async def _get_program(self, request: Request, _client: str) -> Response:
        return one(request, self._programs())

    async def _list_events(self, request: Request, _client: str) -> Response:
        program, targets = request.query_params.get("programID"), set(request.query_params.getlist("targets"))
        found = [
            event
            for event in self._events()
            if program in (None, event["programID"]) and targets <= set(event["targets"])
        ]
        return page(request, found)

    async def _get_event(self, request: Request, _client: str) -> Response:
        return one(request, self._events())

    async def _list_reports(self, request: Request, client: str) -> Response:
        return page(request, [report for owner, report in self._reports if owner == client])

    async def _get_report(self, request: Request, client: str) -> Response:
        return one(request, [report for owner, report in self._reports if owner == client])

    async def _notifiers(self, _request: Request, _client: str) -> Response:
        """Nobody is told anything: clients ask."""
        return JSONResponse({"WEBHOOK": False})

    async def _no_subscriptions(self, request: Request, _client: str) -> Response:
        return page(request, [])

    async def _refuse_subscription(self, _request: Request, _client: str) -> Response:
        raise ProblemError(HTTPStatus.NOT_IMPLEMENTED, "there are no notifiers here: ask for events instead")

    async def _post_report(self, request: Request, client: str) -> Response:
        body = await object_of(request)
        event_id, samples = report_of(body)
        if self._book.get(event_id) is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"no event {event_id[:60]}")
        for resource, wall_s, value in samples:
            kept = self.samples.setdefault((event_id, resource), deque(maxlen=MAX_REPORTS))
            kept.append(Sample(self._wall.simulated(wall_s), value))
        while len(self.samples) > MAX_REPORTS:
            del self.samples[next(iter(self.samples))]
        made = body | self._made("REPORT") | {"clientID": client}
        self._reports.append((client, made))
        return JSONResponse(made, int(HTTPStatus.CREATED))

    def _programs(self) -> list[Json]:
        names = sorted(program_name(kind, programme) for kind, programme in self._book.programmes())
        created = stamp(self._wall.now_s() // 86_400 * 86_400)
        return [program_object(name, created) for name in names]

    def _events(self) -> list[Json]:
        standing = [event for event in self._book.standing() if not event.is_cancelled]
        return [event_object(event, self._wall) for event in standing]

    def _made(self, kind: str) -> Json:
        now = stamp(self._wall.now_s())
        return {"id": str(uuid.uuid4()), "createdDateTime": now, "modificationDateTime": now, "objectType": kind}

    def _problem(self, status: HTTPStatus, detail: str) -> Response:
        self._count(str(int(status)))
        body = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
        return JSONResponse(body, int(status), media_type="application/problem+json")


def _of(handler: Callable[[Request, str], Awaitable[Response]]) -> Handler:
    async def answer(_rest: RestVtn, request: Request, client: str) -> Response:
        return await handler(request, client)

    return answer
