"""The pool's statistics over HTTP: token, pages, rate limit. What is told is in `statistics`.

Handlers are plain functions, which Starlette runs on threads: a page of a great fleet delays no job.
"""

import hmac
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulators.clock import Clock, iso
from simulators.pool.config import PoolConfig
from simulators.pool.ledger import DAY_S
from simulators.pool.limiter import Limiter
from simulators.pool.statistics import Document, Statistics

TOKEN_HEADERS: Final = ("Pool-Auth-Token", "X-Pool-Auth-Token", "SlushPool-Auth-Token", "X-SlushPool-Auth-Token")
GROUPS: Final = ("group", "user")  # of daily hashrates: one account is its own group here
PAGE_SIZE: Final = 1000
MOST_DAYS: Final = 92
COIN: Final = "btc"


class _RefusedError(Exception):
    """A request is answered with a status other than 200."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class PoolApi:
    """Every path of the statistics."""

    def __init__(
        self, config: PoolConfig, statistics: Statistics, clock: Clock, token: str, seen: Callable[[], Document]
    ) -> None:
        """`seen`: what the ports have counted."""
        self._seen = seen
        self._statistics = statistics
        self._clock = clock
        self._token = token
        self._keep_days = config.keep_days
        self._account = config.account
        self.limiter = Limiter(config.requests_per_minute)

    def app(self) -> Starlette:
        """The ASGI application."""
        handlers: dict[str, Callable[[Request], Document]] = {
            f"/stats/json/{COIN}": lambda _: {COIN: self._statistics.pool()},
            f"/accounts/profile/json/{COIN}": self._profile,
            f"/accounts/workers/json/{COIN}": self._workers,
            f"/accounts/workers_daily/json/{COIN}": self._workers_daily,
            f"/accounts/rewards/json/{COIN}": lambda asked: {COIN: self._statistics.rewards(self._days(asked))},
            f"/accounts/payouts/json/{COIN}": lambda _: self._statistics.payouts(),
            **{
                f"/accounts/hash_rate_daily/json/{group}/{COIN}": self._hash_rate_daily
                for group in (*GROUPS, self._account)
            },
        }
        routes = [
            Route(path + end, self._answer(make), methods=["GET"])
            for path, make in handlers.items()
            for end in ("", "/")
        ]
        return Starlette(routes=[*routes, Route("/world/pool", self._world, methods=["GET"])])

    def _answer(self, make: Callable[[Request], Document]) -> Callable[[Request], Response]:
        def handler(request: Request) -> Response:
            now_s = self._clock.now_s()
            given = next((value for name in TOKEN_HEADERS if (value := request.headers.get(name))), "")
            allowance = self.limiter.take(given[:64], now_s)
            try:
                if not allowance.is_allowed:
                    raise _RefusedError(
                        429, f"more than {allowance.limit} requests a minute; wait {allowance.reset_s} s"
                    )
                if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
                    raise _RefusedError(403, f"the header {TOKEN_HEADERS[0]} holds no token of this account")
                status, body = 200, make(request)
            except _RefusedError as error:
                status, body = error.status, {"error": str(error)}
            headers = {"X-World-Time": iso(now_s), **allowance.headers}
            return Response(orjson.dumps(body), status, headers, media_type="application/json")

        return handler

    def _world(self, _request: Request) -> Response:
        """What no real pool tells: who was refused, and why. Open, as all of `/world`."""
        return Response(
            orjson.dumps(self._seen() | {"limit_exceeded": self.limiter.refused}), media_type="application/json"
        )

    def _profile(self, _request: Request) -> Document:
        return {"username": self._account, COIN: self._statistics.profile()}

    def _hash_rate_daily(self, request: Request) -> Document:
        return {COIN: self._statistics.hash_rate_daily(self._days(request))}

    def _workers(self, request: Request) -> Document:
        first, end, pages = self._page(request)
        return {COIN: {"workers": self._statistics.workers(first, end), "pagination": pages}}

    def _workers_daily(self, request: Request) -> Document:
        day = _day("date", request.query_params.get("date"))
        if day > self._clock.now_s() // DAY_S:
            raise _RefusedError(400, "date is in the future")
        first, end, pages = self._page(request)
        is_final = self._statistics.counted_until_s() >= (day + 1) * DAY_S
        told = {"date": day * DAY_S, "is_final": is_final, "pagination": pages}
        return {COIN: {**told, "workers": self._statistics.workers_daily(day, first, end)}}

    def _page(self, request: Request) -> tuple[int, int, Document]:
        size = _number(request, "page_size", PAGE_SIZE, PAGE_SIZE)
        page = _number(request, "page", 1, 1_000_000)
        total = self._statistics.workers_total
        pages = {"page": page, "page_size": size, "item_count": total, "page_count": max(1, -(-total // size))}
        return (page - 1) * size, page * size, pages

    def _days(self, request: Request) -> range:
        """Whole days that are over, at most so many, the last ones where nothing is asked."""
        today = int(self._clock.now_s() // DAY_S)
        asked = request.query_params
        first = _day("from", asked["from"]) if "from" in asked else today - self._keep_days + 1
        last = _day("to", asked["to"]) if "to" in asked else today - 1
        if last - first >= MOST_DAYS:
            raise _RefusedError(400, f"at most {MOST_DAYS} days at a time")
        return range(first, min(last, today - 1) + 1)


def _day(name: str, text: str | None) -> int:
    """A UTC day, counted from 1970."""
    try:
        parsed = date.fromisoformat(text or "")
    except ValueError:
        raise _RefusedError(400, f"{name} must be a date, YYYY-MM-DD") from None
    return int(datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC).timestamp() // DAY_S)


def _number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(most)) or not 1 <= int(text) <= most:
        raise _RefusedError(400, f"{name} must be a number from 1 to {most}")
    return int(text)
