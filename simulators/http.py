"""The market services over HTTP: routing, replies and their headers. Loopback only; GET, but for ERCOT's log-in.

Handlers are plain functions: Starlette runs them on threads, so that a long range never delays a device command.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulators import (
    binance_lists,
    coinbase_app,
    ercot,
    exchanges,
    explorer,
    explorer_past,
    history,
    listings,
    quotes,
    trades,
    weather_service,
)
from simulators.clock import Clock, epoch_s, iso
from simulators.cloud.routes import CloudRoutes
from simulators.documents import block_document, offer_document
from simulators.ercot_routes import ErcotRoutes
from simulators.gate import Gate
from simulators.nowhere import not_found
from simulators.series import GENERATED, RECORDED, World

MAX_CANDLES = 300
_BLOCKS_PER_PAGE = 15
_HEIGHT_MAX = 999_999_999


class Health(Protocol):
    """What tells whether the world is well."""

    def problem(self) -> str:
        """Why the world is unhealthy; empty when it is well."""
        ...

    def devices(self) -> int:
        """Number of simulated devices."""
        ...


class _BadQueryError(Exception):
    """A query parameter is wrong; answered with status 400."""


class Services:
    """All HTTP endpoints of one world."""

    def __init__(self, world: World, clock: Clock, health: Health) -> None:
        self._world = world
        self._clock = clock
        self._health = health
        self._ercot = ErcotRoutes(world, clock)
        self._clouds = CloudRoutes(world, clock)
        self._gate: Gate | None = None

    def app(self) -> Gate:
        """The ASGI application, behind what stands before the services."""
        config = self._world.config
        limits = None if config.markets.limits == "scenario" else config.markets.limits
        self._gate = Gate(self.routed(), self._world.script, config.seed, self._clock, limits)
        return self._gate

    def routed(self) -> Starlette:
        """What is served, with nothing before it."""
        paths: dict[str, Callable[[Request], Response]] = {
            "/products/BTC-USD/ticker": self.ticker,
            "/products/BTC-USD/candles": self.candles,
            "/products/BTC-USD/trades": self._past(trades.coinbase_trades),
            "/0/public/Trades": self._past(trades.kraken_trades),
            "/0/public/OHLC": self._past(history.kraken_ohlc),
            "/api/v2/ticker/btcusd/": self.bitstamp_ticker,
            "/api/v2/transactions/btcusd/": self._past(trades.bitstamp_transactions),
            "/api/v2/ohlc/btcusd/": self._past(history.bitstamp_ohlc),
            "/api/v3/aggTrades": self._past(trades.binance_trades),
            "/api/v3/klines": self._past(history.binance_klines),
            "/v1/pubticker/{symbol}": self.gemini_ticker,
            "/v1/trades/{symbol}": self.gemini_trades,
            "/v2/candles/{symbol}/{step}": self.gemini_candles,
            "/api/v1/mining/blocks/timestamp/{timestamp}": self.block_at,
            "/api/v1/blocks": self.blocks,
            "/api/v1/blocks/{height}": self.blocks,
            "/api/v1/availability/gpus": self.gpu_availability,
            "/world/series": self.series,
            "/world/services": self.services,
            "/world/time": self.time,
            "/healthz": self.healthz,
        }
        asked = {
            **listings.PATHS,
            **quotes.PATHS,
            **binance_lists.PATHS,
            **coinbase_app.PATHS,
            **explorer.PATHS,
            **explorer_past.PATHS,
            "/v1/archive": weather_service.archive,
            "/v1/forecast": weather_service.forecast,
        }
        paths |= {path: self._past(answer) for path, answer in asked.items()}
        plain = [Route(path, handler, methods=["GET"]) for path, handler in paths.items()]
        routes = [*plain, *self._ercot.routes(), *self._clouds.routes()]
        return Starlette(routes=routes, exception_handlers={404: not_found})

    def _past(
        self, answer: Callable[[World, Mapping[str, str], float], exchanges.Answer]
    ) -> Callable[[Request], Response]:
        def handler(request: Request) -> Response:
            now_s = self._clock.now_s()
            said = {name: str(value) for name, value in request.path_params.items()}
            body, source, status = answer(self._world, dict(request.query_params) | said, now_s)
            if isinstance(body, str):
                return self._text(body, source, now_s, status)
            return self._json(body, source, now_s, status=status)

        return handler

    def ticker(self, _request: Request) -> Response:
        """Coinbase Exchange: last trade and best quotes; prices are strings."""
        return self._json(*exchanges.coinbase(self._world, now_s := self._clock.now_s()), now_s)

    def bitstamp_ticker(self, _request: Request) -> Response:
        """Bitstamp: the ticker of BTC/USD."""
        return self._json(*exchanges.bitstamp(self._world, now_s := self._clock.now_s()), now_s)

    def gemini_ticker(self, request: Request) -> Response:
        """Gemini: the ticker of a symbol."""
        now_s = self._clock.now_s()
        body, source, status = exchanges.gemini_ticker(self._world, request.path_params["symbol"], now_s)
        return self._json(body, source, now_s, status=status)

    def gemini_trades(self, request: Request) -> Response:
        """Gemini: the last trades of a symbol."""
        now_s, query = self._clock.now_s(), dict(request.query_params)
        body, source, status = trades.gemini_trades(self._world, request.path_params["symbol"], query, now_s)
        return self._json(body, source, now_s, status=status)

    def gemini_candles(self, request: Request) -> Response:
        """Gemini: candles of a symbol and a time frame."""
        now_s = self._clock.now_s()
        asked = request.path_params
        body, source, status = history.gemini_candles(self._world, asked["symbol"], asked["step"], now_s)
        return self._json(body, source, now_s, status=status)

    def candles(self, request: Request) -> Response:
        """Coinbase Exchange: [time, low, high, open, close, volume] newest first, at most 300."""
        now_s = self._clock.now_s()
        try:
            steps, step_s = _candle_steps(_query(request), now_s)
        except (_BadQueryError, ValueError, OverflowError) as error:
            return self._json({"message": str(error)}, GENERATED, now_s, status=400)
        made, source = history.candles_of(self._world, steps, step_s, now_s)
        rows = [[one.start_s, one.low, one.high, one.open, one.close, one.volume] for one in reversed(made)]
        return self._json(rows, source, now_s)

    def blocks(self, request: Request) -> Response:
        """mempool.space: the last 15 blocks, or 15 up to a height."""
        now_s = self._clock.now_s()
        if "height" not in request.path_params:
            blocks, source = self._world.blocks(now_s, _BLOCKS_PER_PAGE)
            return self._json([block_document(block) for block in blocks], source, now_s)
        try:
            height = _number("height", request.path_params["height"], 0, _HEIGHT_MAX)
        except _BadQueryError as error:
            return self._json({"error": str(error)}, GENERATED, now_s, status=400)
        tip, source = self._world.blocks(now_s, 1)
        found = self._world.blocks_below(min(height, tip[0].height), _BLOCKS_PER_PAGE, now_s)
        if found is None:
            return self._json({"error": f"no block of height {height} is known"}, source, now_s, status=404)
        return self._json([block_document(block) for block in found[0]], found[1], now_s)

    def block_at(self, request: Request) -> Response:
        """mempool.space: the last block by a Unix second."""
        now_s = self._clock.now_s()
        body, source, status = history.block_at(self._world, request.path_params["timestamp"], now_s)
        return self._json(body, source, now_s, status=status)

    def gpu_availability(self, request: Request) -> Response:
        """Prime Intellect: rental offers; filters gpu_type and gpu_count, paging page and page_size."""
        now_s = self._clock.now_s()
        offers, source = self._world.gpu_offers(now_s)
        try:
            query = _query(request)
            page, size = _bounded(query, "page", 1, 10**6), _bounded(query, "page_size", 100, 100)
        except _BadQueryError as error:
            return self._json({"detail": str(error)}, source, now_s, status=422)
        wanted, count = query.get("gpu_type"), query.get("gpu_count")
        items = [
            offer_document(offer)
            for offer in offers
            if wanted in (None, offer.gpu_type.name) and count in (None, str(offer.gpu_count))
        ]
        body = {"items": items[(page - 1) * size : page * size], "totalCount": len(items)}
        return self._json(body, source, now_s)

    def series(self, _request: Request) -> Response:
        """Which series are recorded, from when to when, with how many gaps, and which are generated."""
        source = RECORDED if self._world.recording else GENERATED
        return self._json({"series": self._world.describe()}, source, self._clock.now_s())

    def services(self, _request: Request) -> Response:
        """How often each service was asked, beyond its limit, refused, and in which way its replies failed."""
        counts = self._gate.counts() if self._gate else {}
        return self._json({"services": counts}, GENERATED, self._clock.now_s())

    def time(self, _request: Request) -> Response:
        """The simulated instant, and what world this is."""
        now_s = self._clock.now_s()
        config = self._world.config
        body = {
            "simulated_at": iso(now_s),
            "speed": self._clock.speed,
            "seed": config.seed,
            "scenario": config.scenario,
            "from": iso(self._world.start_s()),
        }
        return self._json(body, RECORDED if self._world.recording else GENERATED, now_s)

    def healthz(self, _request: Request) -> Response:
        """200 when well; 503 with the reason otherwise."""
        problem = self._health.problem()
        body = {"status": problem or "ok", "name": "world", "devices": self._health.devices()}
        return self._json(body, GENERATED, self._clock.now_s(), status=503 if problem else 200)

    @staticmethod
    def _text(body: str, source: str, now_s: float, status: int) -> Response:
        stamps = {"X-World-Source": source, "X-World-Time": iso(now_s)}
        return Response(body, status_code=status, headers=stamps, media_type="text/plain")

    @staticmethod
    def _json(
        body: object, source: str, now_s: float, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        stamps = {"X-World-Source": source, "X-World-Time": iso(now_s), **(headers or {})}
        return Response(orjson.dumps(body), status_code=status, headers=stamps, media_type="application/json")


def _query(request: Request) -> dict[str, str]:
    pairs = request.query_params.multi_items()
    query = dict(pairs)
    if len(query) != len(pairs) or len(pairs) > 40:
        message = "each parameter may be given once, and at most 40 of them"
        raise _BadQueryError(message)
    return query


def _bounded(query: Mapping[str, str], key: str, default: int, high: int) -> int:
    return _number(key, query.get(key, str(default)), 1, high)


def _number(name: str, text: str, low: int, high: int) -> int:
    """An integer within bounds; what may be thousands of digits long is never converted."""
    if not text.isdecimal() or len(text) > len(str(high)) or not low <= int(text) <= high:
        message = f"{name} must be an integer from {low} to {high}, is {ercot.shown(text)!r}"
        raise _BadQueryError(message)
    return int(text)


def _candle_steps(query: Mapping[str, str], now_s: float) -> tuple[range, int]:
    """The steps asked for, counted from 1970, and their length; by default the last 300."""
    text = query.get("granularity", "3600")
    if text not in map(str, history.COINBASE_STEPS_S):
        message = (
            f"Unsupported granularity {ercot.shown(text)!r}; there are {', '.join(map(str, history.COINBASE_STEPS_S))}"
        )
        raise _BadQueryError(message)
    step_s = int(text)
    end_s = _instant_s(query["end"]) if "end" in query else now_s
    start_s = _instant_s(query["start"]) if "start" in query else end_s - (MAX_CANDLES - 1) * step_s
    first, last = -int(-start_s // step_s), int(end_s // step_s)
    if last - first >= MAX_CANDLES:
        message = f"granularity too small for the requested time range; count of aggregations exceeds {MAX_CANDLES}"
        raise _BadQueryError(message)
    return range(first, last + 1), step_s


def _instant_s(text: str) -> float:
    return float(text) if text.isdecimal() else epoch_s(text.replace(" ", "+"))
