"""Prices (EC-22, EC-23, EC-26): newest, history, statistics. What a price is fit for is in `docs/economics.md`."""

from datetime import datetime, timedelta
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, Query, Request

from hcp_pipelines.api.instants import Instant, window
from hcp_pipelines.api.paging import After, key_of, page
from hcp_pipelines.api.principals import Everybody, Staff
from hcp_pipelines.api.problems import ProblemError
from hcp_pipelines.api.routes.price_shapes import (
    CurrentPrices,
    Price,
    PricedType,
    PriceHistory,
    PriceType,
    Statistics,
    StatisticsOfType,
)
from hcp_pipelines.api.state import api_of
from hcp_pipelines.domain.ticks import Tick
from hcp_pipelines.storage.prices import get_price_history
from hcp_pipelines.storage.statements import sql

router = APIRouter(prefix="/api/v1/economic", tags=["economic"])
ROWS = 1000
_COLUMNS = (
    "id", "stream", "series", "timestamp", "price_type", "value", "unit", "source", "region", "quality", "revision",
    "metadata",
)  # fmt: skip
_HISTORY = """
    select id, stream, series, "timestamp", price_type, value, unit, source, region, quality, revision, metadata
    from price_data p
    where price_type = %(type)s and "timestamp" >= %(start)s and "timestamp" < %(end)s and quality <> 'absurd'
      and ("timestamp", id) > (%(after)s, %(id)s) and (%(series)s::text is null or series = %(series)s)
      and not exists (select from price_data n
                      where n.stream = p.stream and n.series = p.series and n."timestamp" = p."timestamp"
                        and n.revision > p.revision and n.quality <> 'absurd')
    order by "timestamp", id limit %(limit)s"""


@router.get("/prices/current")
async def current_prices(
    _: Everybody,
    request: Request,
    price_type: Annotated[PriceType | None, Query(alias="type", examples=["electricity"])] = None,
) -> CurrentPrices:
    """The newest actionable value of each stream, series and source."""
    api = api_of(request)
    rows = await api.fetch(sql("latest_prices"), {"price_type": price_type})
    prices = [_price((*row[:10], row[11], row[12])) for row in rows]
    return CurrentPrices(timestamp=api.clock.now(), prices=prices)


@router.get("/prices/history")
async def price_history(
    _: Everybody,
    request: Request,
    price_type: Annotated[PriceType, Query(alias="type", examples=["electricity"])],
    series: Annotated[str | None, Query(max_length=100, examples=["HB_HOUSTON"])] = None,
    start: Instant = None,
    end: Instant = None,
    limit: Annotated[int, Query(ge=1, le=ROWS, examples=[200])] = 200,
    after: After = None,
) -> PriceHistory:
    """One type's values over [start, end), ascending; a day up to now unless something else is said."""
    api = api_of(request)
    since, until = window(api.clock.now(), start, end, timedelta(days=1))
    after_at, after_id = _place(after, since)
    names = {"type": price_type, "series": series, "start": since, "end": until, "after": after_at, "id": after_id}
    rows = await api.fetch(_HISTORY, names | {"limit": limit + 1})
    shown, more = page(rows, limit, lambda row: [row[3].isoformat(), row[0]])
    return PriceHistory(items=[_price(row) for row in shown], next=more)


@router.get("/statistics")
async def statistics(
    _: Staff,
    request: Request,
    price_type: Annotated[PricedType, Query(alias="type", examples=["electricity"])] = "electricity",
    days: Annotated[int, Query(ge=1, le=120, examples=[30])] = 30,
) -> StatisticsOfType:
    """Mean, percentiles and volatility of each series over the last days."""
    api = api_of(request)
    end = api.clock.now()
    start = end - timedelta(days=days)
    items = await api.blocking(lambda connection: _statistics(connection, price_type, start, end))
    return StatisticsOfType(start=start, end=end, items=items)


def _statistics(
    connection: psycopg.Connection[Any], price_type: PricedType, start: datetime, end: datetime
) -> list[Statistics]:
    import polars as pl  # some 30 MB that only this needs

    from hcp_pipelines.economics.statistics import RETURNS_OF_TYPE, calculate_price_volatility, get_price_statistics

    try:
        ticks = get_price_history(connection, price_type, start, end)
    except ValueError as error:
        raise ProblemError(422, str(error)) from None
    by_stream: dict[str, list[Tick]] = {}
    for tick in ticks:
        by_stream.setdefault(tick.stream.value, []).append(tick)
    found = []
    for stream, rows in sorted(by_stream.items()):
        frame = pl.DataFrame({name: [getattr(t, name) for t in rows] for name in ("series", "source_at", "value")})
        moves = calculate_price_volatility(frame, RETURNS_OF_TYPE[price_type])
        volatility = dict(moves.select("series", "volatility").iter_rows())
        for row in get_price_statistics(frame).iter_rows(named=True):
            found.append(Statistics(stream=stream, volatility=volatility.get(row["series"]), **row))
    return found


def _place(after: str | None, since: datetime) -> tuple[datetime, int]:
    if after is None:
        return since, -1
    at, number = key_of(after, (str, int))
    try:
        return datetime.fromisoformat(at), number
    except ValueError:
        raise ProblemError(400, "query.after: take it from `next` of the page before, as it is") from None


def _price(row: tuple[Any, ...]) -> Price:
    return Price(**dict(zip(_COLUMNS, row, strict=True)))
