"""Pure: is a tick good, unusual, absurd, out of order or a duplicate, given what its series has shown so far (DESIGN §5, §7.4).

No I/O and no clock. What is recorded and what is announced follows from the verdict; the database has the last word
on duplicates (storage/sql/store_price_data.sql), since this memory is bounded.

Power is judged by its band alone: real nodal prices cross zero and move from $5,000 to $5 within an interval, so no
ratio to recent values tells a unit error from a spike. Only a *revision of the same interval* by a unit factor does.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from hcp_pipelines.domain.ticks import ACTIONABLE, Quality, Stream, Tick

REMEMBERED_INSTANTS = 512
REMEMBERED_VALUES = 31
MEDIAN_NEEDS = 5
# A real series never moves thirty-fold against its recent median; a wrong unit (cents, thousands, satoshi) does.
UNIT_FACTOR_RATIO = 30.0
UNIT_FACTORS = (1000.0, 0.001, 100.0, 0.01)
UNIT_FACTOR_TOLERANCE = 1e-3
UNIT_FACTOR_FLOOR = 1.0  # below $1 a revision by a factor of a thousand proves nothing

DEFAULT_CAP_USD_PER_MWH = 5000.0
DEFAULT_FLOOR_USD_PER_MWH = -1000.0


@dataclass(frozen=True, slots=True)
class MarketRule:
    """One row of `market_rules` with a scalar value, in force over [effective_from, effective_to)."""

    market: str
    rule: str
    effective_from: datetime
    effective_to: datetime | None
    value: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Caps and floors by date."""

    rules: tuple[MarketRule, ...] = ()

    def value_at(self, rule: str, at: datetime, default: float) -> float:
        """The rule's value on that date; before its first row the first one's, without any row the default."""
        rows = sorted((row for row in self.rules if row.rule == rule), key=lambda row: row.effective_from)
        for row in reversed(rows):
            if row.effective_from <= at and (row.effective_to is None or at < row.effective_to):
                return row.value
        return rows[0].value if rows else default


@dataclass(frozen=True, slots=True)
class Band:
    """Plausible values of a series, inclusive; above `cap` and inside the band a value is unusual."""

    low: float
    high: float
    cap: float = math.inf


# Series other than power: wide enough for any real history, narrow enough that a value in the wrong unit falls out.
BANDS: Mapping[tuple[Stream, str], Band] = {
    (Stream.BTC_USD, ""): Band(500.0, 10_000_000.0),
    (Stream.BTC_NETWORK, "difficulty"): Band(1e10, 1e17),
    (Stream.BTC_NETWORK, "fees_btc_per_block"): Band(0.0, 100.0),
    (Stream.BTC_NETWORK, "height"): Band(100_000.0, 10_000_000.0),
    (Stream.GPU_SPOT, ""): Band(0.01, 500.0),
    (Stream.WEATHER_TEMPERATURE, ""): Band(-60.0, 65.0),
}
MEDIAN_JUDGED = frozenset({(Stream.BTC_USD, ""), (Stream.BTC_NETWORK, "difficulty"), (Stream.GPU_SPOT, "")})

# How far ahead of the world's clock a value may hold from; day-ahead prices are the future by nature, and a block's
# stamp may lie two hours ahead by consensus rule.
MAX_AHEAD: Mapping[Stream, timedelta] = {
    Stream.POWER_DA_SPP: timedelta(days=3),
    Stream.BTC_NETWORK: timedelta(hours=2),
    Stream.GRID_SIGNAL: timedelta(days=7),
}
DEFAULT_MAX_AHEAD = timedelta(minutes=5)

POWER_STREAMS = (Stream.POWER_RT_LMP, Stream.POWER_RT_SPP, Stream.POWER_DA_SPP)


@dataclass(slots=True)
class SeriesMemory:
    """What one series has shown: newest actionable instant, last value of recent instants, recent good values."""

    newest_at: datetime | None = None
    values: OrderedDict[datetime, float] = field(default_factory=OrderedDict)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_VALUES))

    def remember(self, tick: Tick) -> None:
        """Take a judged tick into account; what is not actionable moves neither the newest instant nor the median."""
        self.values[tick.source_at] = tick.value
        self.values.move_to_end(tick.source_at)
        while len(self.values) > REMEMBERED_INSTANTS:
            self.values.popitem(last=False)
        if tick.quality in ACTIONABLE:
            self.recent.append(tick.value)
            if self.newest_at is None or tick.source_at > self.newest_at:
                self.newest_at = tick.source_at


@dataclass(slots=True)
class Memory:
    """The memories of all series."""

    series: dict[tuple[Stream, str], SeriesMemory] = field(default_factory=dict)

    def of(self, tick: Tick) -> SeriesMemory:
        """The memory of the tick's series, new if it is the first."""
        return self.series.setdefault((tick.stream, tick.series), SeriesMemory())

    def newest_at(self, stream: Stream, series: str) -> datetime | None:
        """Newest instant of a series that may be acted on, None before the first."""
        memory = self.series.get((stream, series))
        return memory.newest_at if memory else None

    def restore(self, ticks: Iterable[Tick]) -> None:
        """Fill from recorded ticks, in any order; the newest revision of an instant is the one that counts."""
        for tick in sorted(ticks, key=lambda tick: (tick.source_at, tick.revision)):
            self.of(tick).remember(tick)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A tick with its quality and why, or None where it says nothing new."""

    tick: Tick | None

    @property
    def is_duplicate(self) -> bool:
        """Same series, instant and value as before: counted, not recorded."""
        return self.tick is None


def judge(tick: Tick, memory: Memory, rules: Rules, now: datetime) -> Verdict:
    """The verdict on a tick received at the world's instant `now`; the memory then includes it."""
    series = memory.of(tick)
    known = series.values.get(tick.source_at)
    if known is not None and same_value(known, tick.value):
        return Verdict(None)
    reason = absurdity(tick, series, rules, now)
    if reason:
        judged = replace(tick, quality=Quality.ABSURD, metadata=_with_reason(tick, reason), received_at=now)
    elif series.newest_at is not None and tick.source_at < series.newest_at:
        about = "revision of a past instant" if known is not None else "older than the newest"
        judged = replace(tick, quality=Quality.OUT_OF_ORDER, metadata=_with_reason(tick, about), received_at=now)
    else:
        judged = _in_order(tick, rules, now)
    series.remember(judged)
    return Verdict(judged)


def _in_order(tick: Tick, rules: Rules, now: datetime) -> Tick:
    band = band_of(tick, rules)
    if tick.value > band.cap:
        reason = f"{tick.value:g} is beyond the offer cap of {band.cap:g}"
        return replace(tick, quality=Quality.UNUSUAL, metadata=_with_reason(tick, reason), received_at=now)
    is_unusual = tick.quality is Quality.UNUSUAL  # its source has said so, and why
    return replace(tick, quality=Quality.UNUSUAL if is_unusual else Quality.GOOD, received_at=now)


def _with_reason(tick: Tick, reason: str) -> dict[str, Any]:
    return {**tick.metadata, "quality_reason": reason}


def absurdity(tick: Tick, series: SeriesMemory, rules: Rules, now: datetime) -> str:
    """Why a tick must not be acted on, or nothing."""
    if not math.isfinite(tick.value):
        return "not finite"
    ahead = tick.source_at - now
    limit = MAX_AHEAD.get(tick.stream, DEFAULT_MAX_AHEAD)
    if ahead > limit:
        return f"{ahead.total_seconds():.0f} s ahead of the world, the limit is {limit.total_seconds():.0f} s"
    band = band_of(tick, rules)
    if not band.low <= tick.value <= band.high:
        return f"{tick.value:g} is outside the plausible {band.low:g} … {band.high:g} {tick.unit}"
    return _unit_error(tick, series)


def _unit_error(tick: Tick, series: SeriesMemory) -> str:
    """Against the recent median where a series has one; for power, against the value it would replace."""
    key = _band_key(tick)
    if key in MEDIAN_JUDGED and len(series.recent) >= MEDIAN_NEEDS:
        usual = median(series.recent)
        if usual > 0 and not 1 / UNIT_FACTOR_RATIO < tick.value / usual < UNIT_FACTOR_RATIO:
            return f"{tick.value:g} against a recent median of {usual:g} {tick.unit}: wrong by a unit factor"
    known = series.values.get(tick.source_at)
    if tick.stream in POWER_STREAMS and known is not None and math.isfinite(known) and abs(known) >= UNIT_FACTOR_FLOOR:
        ratio = tick.value / known
        if any(abs(ratio / factor - 1) < UNIT_FACTOR_TOLERANCE for factor in UNIT_FACTORS):
            return f"{tick.value:g} would replace {known:g} {tick.unit}: wrong by a unit factor"
    return ""


def _band_key(tick: Tick) -> tuple[Stream, str]:
    exact = (tick.stream, tick.series)
    return exact if exact in BANDS else (tick.stream, "")


def band_of(tick: Tick, rules: Rules) -> Band:
    """The plausible band of a tick at its date: for power −1,000 … twice the cap of that date, USD/MWh."""
    if tick.stream in POWER_STREAMS:
        name = "da_offer_cap_usd_per_mwh" if tick.stream is Stream.POWER_DA_SPP else "rt_offer_cap_usd_per_mwh"
        cap = rules.value_at(name, tick.source_at, DEFAULT_CAP_USD_PER_MWH)
        low = rules.value_at("rt_plausible_floor_usd_per_mwh", tick.source_at, DEFAULT_FLOOR_USD_PER_MWH)
        return Band(low, 2 * cap, cap)
    return BANDS.get(_band_key(tick), Band(-math.inf, math.inf))


def same_value(left: float, right: float) -> bool:
    """Equality under which NaN equals NaN, as in Postgres: a repeated NaN is a duplicate too."""
    return left == right or (math.isnan(left) and math.isnan(right))
