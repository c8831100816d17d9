"""How outside services misbehave, as a scenario scripts it: the schema alone.

What it does to replies is in `gate` and `broken`, to exchanges' prices in `exchanges`, to ERCOT's in `corrections`.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field

from simulators.spans import Span, Strict

ServiceName = Literal[
    "ercot", "coinbase", "kraken", "bitstamp", "binance", "gemini", "mempool", "open_meteo", "primeintellect", "ec2", "azure",
    "openadr",
]  # fmt: skip
Failure = Literal["error", "throttled", "torn", "truncated", "not_json", "oversized", "slow"]
FAILURES: tuple[Failure, ...] = get_args(Failure)
SERVICES: tuple[ServiceName, ...] = get_args(ServiceName)
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Trouble(Span):
    """What is wrong with some services (all where none is named) in a time of the script.

    Attributes:
        is_down: every request is answered 503.
        delay_ms: every reply comes so much later, real time.
        fail_fraction: of requests, drawn one by one, that go wrong in one of the ways of `failures`: `error` (a status 500 to
            504), `throttled` (as if the limit were reached), `torn` (the connection ends within the body), `truncated` (half of
            the body), `not_json` (a page for people), `oversized` (more bytes than anybody takes), `slow` (`slow_ms` later).
        wrong_fraction: of the numbers in a reply that are null, no number, or in a wrong unit.
        price_factor: on an exchange's prices.
        stuck: an exchange's last trade stays what it was when this began: with its own stamp, or with a new one each time.
        late_minutes: what ERCOT publishes appears so much later.
    """

    services: list[ServiceName] = Field(default_factory=list)
    is_down: bool = False
    delay_ms: float = Field(default=0.0, ge=0.0, le=60_000.0)
    fail_fraction: Fraction = 0.0
    failures: list[Failure] = Field(default_factory=lambda: list(FAILURES), min_length=1)
    slow_ms: float = Field(default=1000.0, ge=0.0, le=60_000.0)
    oversized_mb: float = Field(default=20.0, gt=0.0, le=256.0)
    wrong_fraction: Fraction = 0.0
    price_factor: float = Field(default=1.0, gt=0.0, le=1000.0)
    stuck: Literal["no", "stale", "repeated"] = "no"
    late_minutes: float = Field(default=0.0, ge=0.0, le=1440.0)


class Revision(Span):
    """Settlement, day-ahead and capacity prices that are first told wrong and corrected later.

    Attributes:
        fraction: of the prices of intervals that begin within the span.
        spread_usd_per_mwh: standard deviation of what a correction changes.
        after_h: how long after its interval's beginning a price is corrected; a day-ahead one after its publication.
    """

    fraction: Fraction = 0.05
    spread_usd_per_mwh: float = Field(default=15.0, gt=0.0, le=5000.0)
    after_h: float = Field(default=26.0, gt=0.0, le=720.0)


class ServicePlan(Strict):
    """What a scenario does to the services.

    Attributes:
        limits: requests beyond a service's limit are counted, or refused as the service does.
    """

    limits: Literal["counted", "enforced"] = "counted"
    troubles: list[Trouble] = Field(default_factory=list)
    revisions: list[Revision] = Field(default_factory=list)


class BitcoinShift(Span):
    """The price of bitcoin × `factor`."""

    factor: float = Field(gt=0.0, le=100.0)
