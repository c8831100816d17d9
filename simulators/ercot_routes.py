"""ERCOT's public API in the world: its paths, who may ask, and how it refuses. What it answers is in the modules beside."""

from collections.abc import Callable
from typing import Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulators import ercot, ercot_archive, ercot_corrections, ercot_system
from simulators.bodies import body_within
from simulators.clock import Clock, iso
from simulators.ercot_archive import ROOT, Product
from simulators.ercot_login import MOST_BODY_BYTES, TOKEN_PATH, ErcotLogin
from simulators.series import GENERATED, RECORDED, World

REPORTS: Final = (*ercot.REPORTS, *ercot_system.REPORTS, *ercot_corrections.REPORTS)
VERSION: Final = {"version": "1.0", "name": "ERCOT Public API"}


class ErcotRoutes:
    """All of ERCOT's API in one world."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self._login = ErcotLogin(world.config.markets.ercot_login, clock)
        self._products = ercot_archive.products(REPORTS)

    def routes(self) -> list[Route]:
        """What is served."""
        reports = [Route(ROOT + report.path, self._report(report), methods=["GET"]) for report in REPORTS]
        return [
            *reports,
            Route(ROOT, self._plain(lambda _: ercot_archive.listing(self._products)), methods=["GET"]),
            Route(f"{ROOT}/version", self._plain(lambda _: VERSION), methods=["GET"]),
            Route(f"{ROOT}/archive/{{emil}}", self.archive, methods=["GET"]),
            Route(f"{ROOT}/archive/{{emil}}/download", self.download, methods=["POST"]),
            Route(f"{ROOT}/{{emil}}", self._plain(self._described), methods=["GET"]),
            Route(TOKEN_PATH, self._login.token, methods=["POST"]),
        ]

    def _report(self, report: ercot.Report) -> Callable[[Request], Response]:
        def handler(request: Request) -> Response:
            if (refusal := self._login.refusal(request)) is not None:
                return refusal
            now_s = self._clock.now_s()
            try:
                reply, generated = ercot.answer(self._world, report, _query(request), self._known_s(now_s))
            except (ercot.BadRequestError, OverflowError) as error:
                return self._refused(400, str(error))
            source = GENERATED if generated or self._world.recording is None else RECORDED
            return self._reply(orjson.dumps(reply), source, {"X-World-Generated-Rows": str(generated)})

        return handler

    def _plain(self, answer: Callable[[Request], object]) -> Callable[[Request], Response]:
        def handler(request: Request) -> Response:
            if (refusal := self._login.refusal(request)) is not None:
                return refusal
            body = answer(request)
            return self._refused(404, "There is no such product") if body is None else self._reply(orjson.dumps(body))

        return handler

    def _described(self, request: Request) -> object:
        product = self._product(request)
        return None if product is None else ercot_archive.described(product)

    def archive(self, request: Request) -> Response:
        """The postings of a product, or one of them."""
        if (refusal := self._login.refusal(request)) is not None:
            return refusal
        now_s = self._known_s(self._clock.now_s())
        if (product := self._product(request)) is None:
            return self._refused(404, "There is no such product")
        try:
            query = _query(request)
            if "download" not in query:
                return self._reply(orjson.dumps(ercot_archive.archives(product, query, now_s)))
            doc_id = ercot.integer_of(query, "download", 0, 1, 10**15)
            return self._zip(ercot_archive.document(self._world, product, doc_id, now_s))
        except (ercot.BadRequestError, OverflowError) as error:
            return self._refused(400, str(error))

    async def download(self, request: Request) -> Response:
        """Several postings of a product at once."""
        if (refusal := self._login.refusal(request)) is not None:
            return refusal
        if (product := self._product(request)) is None:
            return self._refused(404, "There is no such product")
        try:
            asked = orjson.loads(await body_within(request, MOST_BODY_BYTES))
            doc_ids = asked.get("docIds") if isinstance(asked, dict) else None
            now_s = self._known_s(self._clock.now_s())
            return self._zip(await run_in_threadpool(ercot_archive.bundle, self._world, product, doc_ids, now_s))
        except (ercot.BadRequestError, orjson.JSONDecodeError, OverflowError) as error:
            return self._refused(400, str(error)[:200])

    def _product(self, request: Request) -> Product | None:
        return self._products.get(str(request.path_params["emil"]).upper())

    def _known_s(self, now_s: float) -> float:
        """The instant whose publications are out: earlier than it is where a scenario has ERCOT publish late."""
        troubles = self._world.script.troubles("ercot", now_s)
        return now_s - 60.0 * max((trouble.late_minutes for trouble, _, _ in troubles), default=0.0)

    def _refused(self, status: int, message: str) -> Response:
        body = orjson.dumps(ercot.refusal(status, message, self._clock.now_s()))
        return Response(body, status_code=status, headers=self._stamps(GENERATED), media_type="application/json")

    def _reply(self, body: bytes, source: str = GENERATED, headers: dict[str, str] | None = None) -> Response:
        return Response(body, headers={**self._stamps(source), **(headers or {})}, media_type="application/json")

    def _zip(self, body: bytes) -> Response:
        return Response(body, headers=self._stamps(GENERATED), media_type="application/zip")

    def _stamps(self, source: str) -> dict[str, str]:
        return {"X-World-Source": source, "X-World-Time": iso(self._clock.now_s())}


def _query(request: Request) -> dict[str, str]:
    """The parameters, each of which may be given once.

    Raises:
        BadRequestError: they are not, or are too many.
    """
    pairs = request.query_params.multi_items()
    query = dict(pairs)
    if len(query) != len(pairs) or len(pairs) > 40:
        message = "each parameter may be given once, and at most 40 of them"
        raise ercot.BadRequestError(message)
    return query
