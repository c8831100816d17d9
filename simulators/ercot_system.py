"""ERCOT's public API, reports of the whole system: day-ahead capacity prices, the load of the weather and the forecast zones.

Columns, filters and paging are those of `ercot`; values come from `series`.
Source: ercot/api-specs@8bc5467, NP4-188-CD, NP6-345-CD and NP6-346-CD. Which weather
zones make up a forecast zone: ERCOT's maps, nearly; a county's share is not followed.
"""

from collections.abc import Mapping

import numpy as np

from simulators.central import stamp
from simulators.corrections import as_known
from simulators.ercot import (
    DATE,
    DST,
    Column,
    Report,
    Rows,
    date_window_s,
    day_ahead_hours,
    hour_endings,
    local_ordinals,
    repeated_hours,
)
from simulators.series import World
from simulators.system import RESERVES, ZONES

_ENDING = Column("hourEnding", "VARCHAR", "Hour Ending")
_ZONE_COLUMNS = dict(
    zip(ZONES, ("coast", "east", "farWest", "north", "northC", "southern", "southC", "west"), strict=True)
)


def _capacity_rows(world: World, query: Mapping[str, str], now_s: float) -> Rows:
    starts_s = day_ahead_hours(query, now_s)
    parts = [world.capacity_price(product, starts_s) for product in RESERVES]
    seed = world.config.seed
    known = [
        as_known(world.script, seed, "mcpc", product, starts_s, part.values, now_s)
        for product, part in zip(RESERVES, parts, strict=True)
    ]
    at_s = np.repeat(starts_s, len(RESERVES))
    products = np.tile(np.array([name.upper() for name in RESERVES], dtype=np.str_), len(starts_s))
    values = np.stack(known, axis=1).ravel()
    recorded = np.stack([part.is_recorded for part in parts], axis=1).ravel()
    repeated, endings = repeated_hours(at_s), hour_endings(at_s)
    keys = {
        "deliveryDate": local_ordinals(at_s),
        "hourEnding": endings,
        "ancillaryType": products,
        "MCPC": values,
        "DSTFlag": repeated,
    }

    def write(row: int) -> list[object]:
        place = [stamp(int(at_s[row]))[:10], str(endings[row]), str(products[row])]
        return [*place, float(values[row]), bool(repeated[row])]

    return Rows(keys, recorded, write)


# Columns of the forecast zones' report, each the sum of weather zones.
_FORECAST_ZONES: Mapping[str, tuple[str, ...]] = {
    "north": ("east", "north", "northC"),
    "south": ("southern", "southC"),
    "west": ("farWest", "west"),
    "houston": ("coast",),
}


def _load_rows(world: World, query: Mapping[str, str], now_s: float) -> Rows:
    return _load(world, query, now_s, {column: (column,) for column in _ZONE_COLUMNS.values()})


def _forecast_zone_rows(world: World, query: Mapping[str, str], now_s: float) -> Rows:
    return _load(world, query, now_s, _FORECAST_ZONES)


def _load(world: World, query: Mapping[str, str], now_s: float, columns: Mapping[str, tuple[str, ...]]) -> Rows:
    """Hourly load by column, each the sum of its weather zones, and of all."""
    first_s, end_s = date_window_s(query, "operatingDay", now_s, 0)
    at_s = np.arange(first_s, min(end_s, int(now_s) - 3599), 3600, dtype=np.int64)
    parts = [world.zone_load(zone, at_s) for zone in ZONES]
    zones = {column: part.values for column, part in zip(_ZONE_COLUMNS.values(), parts, strict=True)}
    loads = {column: np.round(sum(zones[zone] for zone in summed), 2) for column, summed in columns.items()}
    total = np.round(np.sum(list(loads.values()), axis=0), 2) if len(at_s) else np.zeros(0)
    repeated, endings = repeated_hours(at_s), hour_endings(at_s)
    keys = {"operatingDay": local_ordinals(at_s), "hourEnding": endings, **loads, "total": total, "DSTFlag": repeated}

    def write(row: int) -> list[object]:
        place = [stamp(int(at_s[row]))[:10], str(endings[row])]
        return [*place, *(float(values[row]) for values in loads.values()), float(total[row]), bool(repeated[row])]

    return Rows(keys, np.all([part.is_recorded for part in parts], axis=0), write)


REPORTS = (
    Report(
        "/np4-188-cd/dam_clear_price_for_cap",
        "NP4-188-CD",
        "DAM Clearing Prices for Capacity",
        (
            DATE,
            _ENDING,
            Column("ancillaryType", "VARCHAR", "Ancillary Type"),
            Column("MCPC", "DOUBLE", "MCPC", has_range=True),
            DST,
        ),
        _capacity_rows,
    ),
    Report(
        "/np6-345-cd/act_sys_load_by_wzn",
        "NP6-345-CD",
        "Actual System Load by Weather Zone",
        (
            Column("operatingDay", "DATE", "Operating Day", has_range=True),
            _ENDING,
            *(Column(name, "DOUBLE", name, has_range=True) for name in (*_ZONE_COLUMNS.values(), "total")),
            DST,
        ),
        _load_rows,
    ),
    Report(
        "/np6-346-cd/act_sys_load_by_fzn",
        "NP6-346-CD",
        "Actual System Load by Forecast Zone",
        (
            Column("operatingDay", "DATE", "Operating Day", has_range=True),
            _ENDING,
            *(Column(name, "DOUBLE", name, has_range=True) for name in (*_FORECAST_ZONES, "total")),
            DST,
        ),
        _forecast_zone_rows,
    ),
)
