"""Power prices as a target: the hourly mean real-time price of each of the next 48 hours, asked as an hour begins.

What is learnt is the distance to the day-ahead price, or where that is not published yet to the same hour's usual price, and the
price itself, on a scale that is linear near 0 and logarithmic far away. The naive forecast is the same
hour's of the week before. Features are in `horizon_features` and `price_columns`, what is known when in `known_prices`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.baselines import anchor, pairs
from hcp_pipelines.forecasting.horizon_features import WEEK_H, PowerSeries, horizon_columns
from hcp_pipelines.forecasting.hours import HOUR_US, Ints
from hcp_pipelines.forecasting.known_prices import GRACE, first_words, points_of, series_of
from hcp_pipelines.forecasting.learnable.blend import Blend
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.models import BoostedTrees, Forest, Naive, SeasonalNaive
from hcp_pipelines.forecasting.learnable.price_columns import AUTOREGRESSION, USUAL, at, price_columns
from hcp_pipelines.forecasting.learnable.protocol import LAST, Examples, Model

ANCHOR = "anchor"
ASKED_EVERY_H = 5  # learnt from one hour asked in five: no divisor of 24, so that every hour of the day is among them
FRAMING = Framing(ANCHOR, softness=10.0)  # $/MWh
TREES = BoostedTrees(FRAMING, least_in_leaf=150)
NEAR_USUAL, BY_LEVEL = Framing(USUAL, softness=10.0), Framing("", softness=20.0)  # $/MWh
BLEND = Blend(
    (replace(TREES, framing=NEAR_USUAL, name="near_usual"), replace(TREES, framing=BY_LEVEL, name="by_level")),
    toward=AUTOREGRESSION, share=2 / 3, framing=NEAR_USUAL,
)  # fmt: skip
PRICES, GRID = "core.power__known_prices", "core.power__known_grid"


def asked_of(series: PowerSeries, asked: Ints, wanted: Ints) -> Examples:
    """What is known of some hours wanted as others begin: rows of the grid, `wanted` 0 to 47 after `asked`."""
    columns = horizon_columns(series, asked, wanted)
    columns |= {ANCHOR: anchor(series, asked, wanted), LAST: at(series.real_time, asked - 1)}
    columns |= price_columns(series, asked, wanted, columns[ANCHOR])
    starts, grace_us = series.hours.starts_us, round(GRACE.total_seconds() * 1e6)
    return Examples(
        np.column_stack(list(columns.values())).astype(np.float32), tuple(columns), series.real_time[wanted],
        np.zeros(len(asked), dtype=np.int64), (series.point,), starts[asked] + grace_us,
        starts[wanted], starts[wanted] + HOUR_US + grace_us,
        at(series.real_time, wanted - WEEK_H), np.ones(len(asked)),
    )  # fmt: skip


def joined(parts: Sequence[Examples]) -> Examples:
    """Examples of several entities as one set, in the order in which they were asked."""
    entities = tuple(name for each in parts for name in each.entities)
    first = np.cumsum([0, *(len(each.entities) for each in parts)])
    stacked = {
        name: np.concatenate([getattr(each, name) for each in parts])
        for name in ("features", "target", "asked_us", "wanted_us", "known_us", "naive", "scale")
    }
    entity = np.concatenate([each.entity + offset for each, offset in zip(parts, first, strict=False)])
    whole = Examples(names=parts[0].names, entity=entity, entities=entities, **stacked)
    return whole.only(np.lexsort((whole.wanted_us, whole.entity, whole.asked_us)))


@dataclass(frozen=True)
class PriceTarget:
    """As `Target`; entities are settlement points."""

    name: str = "price"
    unit: str = "$/MWh"
    tables: Sequence[str] = (PRICES, GRID)
    models: Sequence[Model] = field(
        default=(
            SeasonalNaive(), Naive(), SeasonalNaive(FRAMING, name=ANCHOR), Forest(FRAMING, least_in_leaf=50), TREES, BLEND,
        )
    )  # fmt: skip

    def examples(
        self, tables: Mapping[str, Any], window: tuple[datetime, datetime], groups: Sequence[str] = ()
    ) -> Examples:
        """As `Target`: every fifth hour of a window, as its prices were first known.

        Raises:
            ConfigError: there are no prices of the window, or none of a settlement point.
        """
        prices = first_words(tables[PRICES])
        points = points_of(prices)
        if unknown := [name for name in groups if name not in points]:
            raise ConfigError(f"{', '.join(unknown)}: no real-time prices; there are {', '.join(points) or 'none'}")
        parts = []
        for series in series_of(prices, groups or points, tables[GRID], window[1]) if points else ():
            begin, end = (series.hours.row_at(at) for at in window)
            asked = np.arange(max(begin, 1 + int(np.isfinite(series.real_time).argmax())), end, ASKED_EVERY_H)
            parts.append(asked_of(series, *pairs(asked, len(series.hours))))
        if not sum(len(each) for each in parts):
            raise ConfigError(f"no prices are known of {window[0]:%Y-%m-%dT%H:%MZ} to {window[1]:%Y-%m-%dT%H:%MZ}")
        return joined(parts)


PRICE = PriceTarget()
