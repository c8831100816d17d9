"""ERCOT's public API, the reports of corrected prices: what was told first, what is right, and since when that is known.

Columns, filters and paging are those of `ercot`; which prices are corrected is in `corrections`. Without a delivery date they are
of the last weeks. Source: ERCOT public API, NP4-197-M (real-time), NP4-196-M (day-ahead), parameters of the reports.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np

from simulators.central import local_hour, local_seconds
from simulators.corrections import STEP_S, Market, corrected, corrections
from simulators.ercot import DATE, DST, Column, Report, Rows, date_window_s, local_ordinals, point_type, repeated_hours
from simulators.series import Values, World
from simulators.streams import FloatArray, IntArray
from simulators.system import RESERVES

_BACK: Final = timedelta(days=45)
_NAME = Column("settlementPointName", "VARCHAR", "Settlement Point Name")
_TYPE = Column("settlementPointType", "VARCHAR", "Settlement Point Type")
_AS_TYPE = Column("ASType", "VARCHAR", "AS Type")
_HOUR = Column("deliveryHour", "INTEGER", "Delivery Hour", has_range=True)
_INTERVAL = Column("deliveryInterval", "INTEGER", "Delivery Interval", has_range=True)
_TIME = Column("priceCorrectionTime", "DATETIME", "Price Correction Time", has_range=True)


class _Corrected(NamedTuple):
    """The corrections of one point or product, by interval."""

    name: str
    starts_s: IntArray
    known_s: FloatArray
    original: FloatArray
    right: FloatArray


def _told(world: World, market: Market, name: str, starts_s: IntArray) -> Values:
    """Prices as they were told first."""
    get = {"spp": world.spp, "da": world.day_ahead, "mcpc": world.capacity_price}[market]
    return get(name, starts_s)


def _corrections(world: World, market: Market, window_s: tuple[int, int], now_s: float) -> Iterator[_Corrected]:
    """What has been corrected by an instant, of the intervals in a window."""
    every_s = np.arange(*window_s, STEP_S[market], dtype=np.int64)
    for name in RESERVES if market == "mcpc" else sorted(world.points):
        found = corrections(world.script, world.config.seed, market, name, every_s)
        is_known = found.from_s <= now_s
        starts_s, add = every_s[is_known], found.add_usd[is_known]
        original = _told(world, market, name, starts_s).values
        yield _Corrected(name, starts_s, found.from_s[is_known], original, corrected(market, original, add))


def _of_market(market: Market, price: str) -> Callable[[World, Mapping[str, str], float], Rows]:
    """How a report makes its rows."""

    def rows(world: World, query: Mapping[str, str], now_s: float) -> Rows:
        if not query.keys() & {"deliveryDate", "deliveryDateFrom", "deliveryDateTo"}:
            query = {**query, "deliveryDateFrom": (local_hour(int(now_s) // 3600).day - _BACK).isoformat()}
        parts = list(_corrections(world, market, date_window_s(query, "deliveryDate", now_s, 1), now_s))
        starts_s = np.concatenate([part.starts_s for part in parts])
        local_s = local_seconds(starts_s)
        known_s = np.concatenate([part.known_s for part in parts]).astype(np.int64)
        names = np.repeat([part.name for part in parts], [len(part.starts_s) for part in parts])
        is_of_points = market != "mcpc"
        keys = {
            "deliveryDate": local_ordinals(starts_s),
            "deliveryHour": local_s % 86_400 // 3600 + 1,
            "deliveryInterval": local_s % 3600 // 900 + 1,
            "settlementPointName" if is_of_points else "ASType": names if is_of_points else np.char.upper(names),
            "settlementPointType": np.array([point_type(name) for name in names], dtype=np.str_),
            f"{price}Original": np.concatenate([part.original for part in parts]),
            f"{price}Corrected": np.concatenate([part.right for part in parts]),
            "priceCorrectionTime": local_seconds(known_s),
            "DSTFlag": repeated_hours(starts_s),
        }
        columns = _COLUMNS[market]
        return Rows(
            keys, np.zeros(len(starts_s), dtype=np.bool_), lambda row: [_written(c, keys[c.name][row]) for c in columns]
        )

    return rows


def _written(column: Column, value: "np.generic") -> object:
    """A key as a report writes it."""
    if column.data_type == "DATE":
        return date.fromordinal(int(value)).isoformat()
    if column.data_type == "DATETIME":
        return datetime.fromtimestamp(int(value), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return value.item()


def _prices(name: str) -> tuple[Column, Column]:
    told, right = (Column(f"{name}{which}", "DOUBLE", f"{name} {which}", True) for which in ("Original", "Corrected"))
    return told, right


_COLUMNS: Mapping[Market, tuple[Column, ...]] = {
    "spp": (DATE, _HOUR, _INTERVAL, _NAME, _TYPE, *_prices("SPP"), _TIME, DST),
    "da": (DATE, _HOUR, _NAME, *_prices("SPP"), _TIME, DST),
    "mcpc": (DATE, _HOUR, _AS_TYPE, *_prices("MCPC"), _TIME, DST),
}
_REAL_TIME, _DAY_AHEAD = "RTM Price Corrections", "DAM Price Corrections"
REPORTS = (
    Report("/np4-197-m/rtm_price_corrections_spp", "NP4-197-M", _REAL_TIME, _COLUMNS["spp"], _of_market("spp", "SPP")),
    Report("/np4-196-m/dam_price_corrections_spp", "NP4-196-M", _DAY_AHEAD, _COLUMNS["da"], _of_market("da", "SPP")),
    Report(
        "/np4-196-m/dam_price_corrections_mcpc", "NP4-196-M", _DAY_AHEAD, _COLUMNS["mcpc"], _of_market("mcpc", "MCPC")
    ),
)
