"""The outside services as such: which path belongs to which, how often each may be asked, and how it refuses who asks too often.

Limits count in the world's seconds, as everything of the market does. Sources: the services' own pages on rate limits (ERCOT's
public API, Coinbase Exchange, Kraken, Bitstamp, Binance Spot, Gemini, Open-Meteo, Amazon EC2); those of mempool.space, Prime
Intellect, Azure's price list and OpenADR servers are not published and are ours.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from simulators.service_plan import ServiceName

BAN_S = 120.0  # Binance: from two minutes on
BANNED_AFTER = 5  # requests that come although the limit is reached


class Refusal(NamedTuple):
    """A reply to a request that is not answered."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    media_type: str = "application/json"


class Service(NamedTuple):
    """A service: the beginnings of its paths, and how much weight it takes in any window of seconds."""

    prefixes: tuple[str, ...]
    limit: int
    window_s: float


SERVICES: Mapping[ServiceName, Service] = {
    "ercot": Service(("/api/public-reports",), 30, 60.0),
    "coinbase": Service(
        (
            "/products",
            "/currencies",
            "/time",
            "/v2/prices/",
            "/v2/exchange-rates",
            "/v2/time",
            "/v2/currencies",
            "/api/v3/brokerage/",
        ),
        10,
        1.0,
    ),
    "kraken": Service(("/0/public/",), 60, 60.0),
    "bitstamp": Service(("/api/v2/",), 400, 1.0),
    "binance": Service(("/api/v3/",), 6000, 60.0),
    "gemini": Service(
        ("/v1/pubticker/", "/v1/trades/", "/v1/symbols", "/v1/pricefeed", "/v1/book/", "/v2/"), 120, 60.0
    ),
    "mempool": Service(
        (
            "/api/v1/block",
            "/api/v1/mining/",
            "/api/v1/fees/",
            "/api/v1/difficulty",
            "/api/v1/prices",
            "/api/v1/historical-price",
            "/api/fee-estimates",
            "/api/block",
            "/api/mempool",
        ),
        250,
        60.0,
    ),
    "open_meteo": Service(("/v1/archive", "/v1/forecast"), 600, 60.0),
    "primeintellect": Service(("/api/v1/availability/",), 60, 60.0),
    "azure": Service(("/api/retail/", "/subscriptions/"), 60, 60.0),
    "ec2": Service((), 20, 1.0),
    "openadr": Service(("/OpenADR2/", "/openadr3/"), 600, 60.0),
}
AMAZON = "/"  # all of its services, by what a request says
_WEIGHTS = {
    "/api/v3/aggTrades": 4, "/api/v3/ticker/24hr": 2, "/api/v3/ticker/price": 2, "/api/v3/klines": 2, "/api/v3/exchangeInfo": 20,
    "/api/v3/trades": 25, "/api/v3/historicalTrades": 25, "/api/v3/uiKlines": 2,
}  # fmt: skip


def service_of(path: str) -> ServiceName | None:
    """The service that a path belongs to; None: the world's own."""
    if path == AMAZON:
        return "ec2"
    for name, service in SERVICES.items():
        if path.startswith(service.prefixes):
            return name
    return None


def weight_of(path: str) -> int:
    """What a request counts for."""
    return _WEIGHTS.get(path, 1)


class Window:
    """What one client has asked of a service within the last window of seconds."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._taken: deque[tuple[float, int]] = deque()
        self.used = 0
        self.banned_until_s = 0.0
        self._in_vain = 0

    def take(self, at_s: float, weight: int) -> float:
        """Count a request; how long until there would be room for it, 0: there is, and it counts."""
        while self._taken and self._taken[0][0] <= at_s - self._service.window_s:
            self.used -= self._taken.popleft()[1]
        if self.used + weight <= self._service.limit:
            self._taken.append((at_s, weight))
            self.used += weight
            self._in_vain = 0
            return 0.0
        self._in_vain += 1
        if self._in_vain >= BANNED_AFTER:
            self.banned_until_s = at_s + BAN_S
        return max(1.0, self._taken[0][0] + self._service.window_s - at_s) if self._taken else 1.0


def refusal(name: ServiceName, wait_s: float, window: Window, at_s: float) -> Refusal:
    """How a service says that it is asked too often."""
    if name == "binance":
        return _binance(wait_s, window, at_s)
    if name == "ec2":
        told = "<Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors>{told}</Errors><RequestID>world</RequestID></Response>'
        return Refusal(503, body.encode(), media_type="text/xml")
    if name == "mempool":
        return Refusal(429, b"Too Many Requests", {"Retry-After": str(round(wait_s))}, "text/plain")
    headers = {"Retry-After": str(round(wait_s))} if name in ("azure", "primeintellect", "gemini", "openadr") else {}
    return Refusal(200 if name == "kraken" else 429, orjson.dumps(_BODIES[name]), headers)


def _binance(wait_s: float, window: Window, at_s: float) -> Refusal:
    """429 with the time that is left, and who goes on asking is banned: 418 until the ban is over."""
    if at_s < window.banned_until_s:
        until_ms, wait_s = int(window.banned_until_s * 1000), window.banned_until_s - at_s
        message = f"Way too much request weight used; IP banned until {until_ms}."
        return Refusal(418, orjson.dumps({"code": -1003, "msg": message}), {"Retry-After": str(round(wait_s))})
    message = "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."
    return Refusal(429, orjson.dumps({"code": -1003, "msg": message}), {"Retry-After": str(round(wait_s))})


_BODIES: Mapping[ServiceName, object] = {
    "ercot": {"error_key": "throttled", "error_message": "Too Many Requests"},
    "coinbase": {"message": "Public rate limit exceeded"},
    "kraken": {"error": ["EGeneral:Too many requests"]},
    "bitstamp": {"status": "error", "reason": "Request rate limit exceeded", "code": "400.002"},
    "gemini": {"result": "error", "reason": "RateLimit", "message": "Requests were made too frequently"},
    "open_meteo": {"error": True, "reason": "Minutely API request limit exceeded. Please try again in one minute."},
    "primeintellect": {"detail": "Rate limit exceeded"},
    "azure": {"Error": {"Code": "429", "Message": "Too Many Requests"}},
    "openadr": {"type": "about:blank", "title": "Too Many Requests", "status": 429},
}
