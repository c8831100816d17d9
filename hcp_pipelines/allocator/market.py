"""What the market is: newest values, the LMPs of the running settlement interval, the live indices. Fed by tick rows.

Latest wins; absurd, late and repeated rows change nothing. Reading the rows is in `intake.py`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from hcp_pipelines.domain.ticks import ACTIONABLE, BITCOIN, Quality, Stream
from hcp_pipelines.economics.bounds import LIMITS, ImplausibleValueError
from hcp_pipelines.economics.mining import HASHPRICE, hashprice_usd_per_ph_day
from hcp_pipelines.economics.power import decision_price_of

LMPS_KEPT = 9  # three settlement intervals
GPU_PREFIX = "gpu."
_NETWORK = ("difficulty", "fees_btc_per_block", "height")
_LMP = Stream.POWER_RT_LMP.value
_BTC, _NET, _GPU = Stream.BTC_USD.value, Stream.BTC_NETWORK.value, Stream.GPU_SPOT.value
_QUALITIES = frozenset(q.value for q in ACTIONABLE)
assert Quality.ABSURD.value not in _QUALITIES


@dataclass(frozen=True, slots=True)
class TickRow:
    """One row of `price_data`. `origin_ns` is this machine's monotonic instant of its commit, as near as known."""

    id: int
    stream: str
    series: str
    source_at: datetime
    value: float
    quality: str
    revision: int = 0
    origin_ns: int = 0


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest actionable value of a series."""

    tick_id: int
    source_at: datetime
    value: float
    revision: int
    origin_ns: int


@dataclass
class MarketBook:
    """Everything a decision needs to know of the outside."""

    newest: dict[tuple[str, str], Latest] = field(default_factory=dict)
    indices: dict[str, float] = field(default_factory=dict)
    values_seen: dict[str, int] = field(default_factory=dict)  # by settlement point: instants with a good LMP
    _lmps: dict[str, dict[datetime, tuple[int, float]]] = field(default_factory=dict)

    def take(self, rows: Iterable[TickRow]) -> bool:
        """Take rows in order of id; whether anything a decision looks at has changed."""
        changed = False
        for row in rows:
            if row.quality in _QUALITIES and _is_possible(row):
                changed = self._take(row) or changed
        return changed

    def decision_price(self, point: str, slope: float = 1.0, offset: float = 0.0) -> float | None:
        """Expected settlement price of the running interval, $/MWh; None without an LMP."""
        lmps = self._lmps.get(point)
        if not lmps:
            return None
        return decision_price_of([(instant, value) for instant, (_, value) in lmps.items()], slope, offset)

    def power(self, point: str) -> Latest | None:
        """The newest LMP of a settlement point."""
        return self.newest.get((_LMP, point))

    def stale_before_s(self, point: str, limit_s: float) -> float:
        """Since when each LMP came alone, after more than `limit_s` of silence: Unix seconds; infinite if the newest did not."""
        since_s, newest = math.inf, [at.timestamp() for at in self._lmps.get(point, {})]
        for before_s, at_s in reversed(list(pairwise(newest))):
            if at_s - before_s <= limit_s:
                break
            since_s = before_s + limit_s
        return since_s

    def bitcoin(self) -> Latest | None:
        """The newest bitcoin price."""
        return self.newest.get((_BTC, BITCOIN))

    def tick_for(self, point: str, index_names: Iterable[str]) -> Latest | None:
        """The newest value that a facility at `point` with these indices depends on."""
        found = [self.newest.get((_LMP, point))]
        for name in index_names:
            if name == HASHPRICE:
                found += [self.newest.get((_BTC, BITCOIN)), self.newest.get((_NET, "difficulty"))]
            elif name.startswith(GPU_PREFIX):
                found.append(self.newest.get((_GPU, name.removeprefix(GPU_PREFIX))))
        return max((f for f in found if f is not None), key=lambda f: f.tick_id, default=None)

    def _take(self, row: TickRow) -> bool:
        key = (row.stream, row.series)
        before = self.newest.get(key)
        is_newest = before is None or (row.source_at, row.revision) > (before.source_at, before.revision)
        if is_newest:
            self.newest[key] = Latest(row.id, row.source_at, row.value, row.revision, row.origin_ns)
        if row.stream == _LMP:
            return self._take_lmp(row)
        if not is_newest or (before is not None and before.value == row.value):
            return False
        return self._update_indices(row)

    def _take_lmp(self, row: TickRow) -> bool:
        lmps = self._lmps.setdefault(row.series, {})
        known = lmps.get(row.source_at)
        if known is not None and known[0] >= row.revision:
            return False
        if known is None and len(lmps) >= LMPS_KEPT and row.source_at < next(iter(lmps)):
            return False
        if known is None:
            self.values_seen[row.series] = self.values_seen.get(row.series, 0) + 1
        lmps[row.source_at] = (row.revision, row.value)
        rising = sorted(lmps.items())[-LMPS_KEPT:]
        self._lmps[row.series] = dict(rising)
        return True

    def _update_indices(self, row: TickRow) -> bool:
        if row.stream == _GPU:
            self.indices[f"{GPU_PREFIX}{row.series}"] = row.value
            return True
        if row.stream not in (_BTC, _NET) or (row.stream == _BTC and row.series != BITCOIN):
            return False
        price = self.newest.get((_BTC, BITCOIN))
        network = [self.newest.get((_NET, series)) for series in _NETWORK]
        if price is None or None in network:
            return False
        difficulty, fees, height = (n.value for n in network if n is not None)
        try:
            self.indices[HASHPRICE] = hashprice_usd_per_ph_day(price.value, difficulty, fees, int(height))
        except ImplausibleValueError:
            return False  # the index stays what it was
        return True


def _is_possible(row: TickRow) -> bool:
    """Whether the formulas take the value: what the feed calls good always is, and nothing else may end an allocator."""
    return LIMITS["lmp_usd_per_mwh"].has(row.value) if row.stream == _LMP else math.isfinite(row.value)


def row_of(columns: tuple[Any, ...], now_ns: int, real_now: datetime) -> TickRow:
    """A row of the intake's query: id, stream, series, timestamp, value, quality, revision, created_at, bench's own mark.

    Without a mark the row's `created_at` (real time, just before its commit) is laid on this machine's monotonic clock.
    """
    tick_id, stream, series, source_at, value, quality, revision, created_at, mark_ns = columns
    origin_ns = int(mark_ns) if mark_ns is not None else now_ns - int((real_now - created_at).total_seconds() * 1e9)
    return TickRow(tick_id, stream, series, source_at, value, quality, revision, origin_ns)
