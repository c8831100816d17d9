"""ERCOT's public reports: real-time LMPs, settlement point and day-ahead prices and their corrections as ticks; the rest as rows.

Reads the paged `fields` + `data` list-of-lists form and its Central stamps. It neither judges a price (feed.quality)
nor stores it; the token and subscription key that the real service wants are in `ercot_login`.
Source: ERCOT public API specification, reports NP6-788-CD, NP6-905-CD, NP4-190-CD, NP4-188-CD, NP6-345-CD, NP4-197-M, NP4-196-M.
"""

import math
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.domain.ticks import Stream, Tick
from hcp_pipelines.markets.central import LOCAL_FORMAT, from_local, hour_ending, local_window
from hcp_pipelines.markets.http import MarketHttp, Reply
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import instant_or_error, integer, is_set, number

REAL_BASE_URL = "https://api.ercot.com"
LIMIT = Limit(30, 60.0)  # of a subscription
REPORTS = "/api/public-reports"
RT_LMP = f"{REPORTS}/np6-788-cd/lmp_node_zone_hub"
RT_SPP = f"{REPORTS}/np6-905-cd/spp_node_zone_hub"
DA_SPP = f"{REPORTS}/np4-190-cd/dam_stlmnt_pnt_prices"
DA_CAPACITY = f"{REPORTS}/np4-188-cd/dam_clear_price_for_cap"
ZONE_LOAD = f"{REPORTS}/np6-345-cd/act_sys_load_by_wzn"
RT_CORRECTIONS = f"{REPORTS}/np4-197-m/rtm_price_corrections_spp"
DA_CORRECTIONS = f"{REPORTS}/np4-196-m/dam_price_corrections_spp"
ZONES = ("coast", "east", "farWest", "north", "northC", "southern", "southC", "west", "total")

SCED_INTERVAL = timedelta(minutes=5)
SETTLEMENT_INTERVAL = timedelta(minutes=15)
DAY_AHEAD_INTERVAL = timedelta(hours=1)
PAGE_SIZE = 10_000  # half a megabyte; field clients ask for ten times as many
MAX_PAGES = 100
REPORT_POINTS = 1000  # about as many are in a report of prices, each interval
# Up to so many points a window of more than a page is asked for point by point, to spare what nobody wants.
FILTERED_POINTS = 16
SOURCE = "ERCOT"
UNIT = "USD/MWh"


class CapacityPrice(NamedTuple):
    """Day-ahead clearing price of a reserve product in an hour, USD for a MW of capacity."""

    start_at: datetime
    product: str
    price_usd_per_mw_h: float


class ZoneLoad(NamedTuple):
    """Mean load of a weather zone (or of the system: `total`) in an hour, MW."""

    start_at: datetime
    zone: str
    load_mw: float


class _Field(BaseModel):
    name: str


class _Meta(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    total_pages: int = Field(alias="totalPages", ge=0)
    current_page: int = Field(default=1, alias="currentPage", ge=0)


class _Report(BaseModel):
    """One page of a public report; the specification calls `data` an object, the service sends rows as lists."""

    meta: _Meta = Field(alias="_meta")
    fields: list[_Field]
    data: list[list[Any]]

    def rows(self, path: str, needed: Collection[str]) -> Iterator[dict[str, Any]]:
        """The rows by column name; a missing column or a short row is a MarketError."""
        names = [field.name for field in self.fields]
        missing = [name for name in needed if name not in names]
        if missing and (self.data or names):
            raise MarketError(
                f"{path}: column {missing[0]!r} is missing, the reply has {names}: the report has changed."
            )
        for row in self.data:
            if len(row) != len(names):
                raise MarketError(f"{path}: a row has {len(row)} values for {len(names)} columns: {row[:8]!r}.")
            yield dict(zip(names, row, strict=True))


class ErcotClient:
    """Prices of some settlement points as ticks, in the order of their interval; windows are UTC and half-open."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def rt_lmp(self, points: Collection[str], start: datetime, end: datetime) -> list[Tick]:
        """Real-time LMPs of the SCED runs whose 5-minute interval starts in the window, USD/MWh.

        SCED stamps are irregular (00:05:13): a run prices the clock interval it falls in, and its own stamp is kept
        as metadata `sced_at`.
        """
        first, last = local_window(start, end + SCED_INTERVAL - timedelta(seconds=1))
        window = {"SCEDTimestampFrom": first.strftime(LOCAL_FORMAT), "SCEDTimestampTo": last.strftime(LOCAL_FORMAT)}
        needed = ("SCEDTimestamp", "repeatHourFlag", "settlementPoint", "LMP")
        ticks: list[Tick] = []
        runs = _runs(start, end, SCED_INTERVAL)
        async for row, reply in self._rows(RT_LMP, points, [window], needed, runs):
            local = instant_or_error(RT_LMP, row["SCEDTimestamp"])
            sced_at = from_local(local, is_set(row["repeatHourFlag"]))
            about = {"sced_at": sced_at.isoformat(), **reply.provenance()}
            ticks.append(
                _tick(Stream.POWER_RT_LMP, row["settlementPoint"], floor_to(sced_at, SCED_INTERVAL), row["LMP"], about)
            )
        return _within(ticks, points, start, end)

    async def rt_spp(self, points: Collection[str], start: datetime, end: datetime) -> list[Tick]:
        """Real-time settlement point prices of the 15-minute intervals that start in the window, USD/MWh."""
        names = ("deliveryDate", "deliveryHour", "deliveryInterval", "settlementPoint")
        needed = (*names, "settlementPointPrice", "DSTFlag")
        ticks: list[Tick] = []
        runs = _runs(start, end, SETTLEMENT_INTERVAL)
        windows = [_delivery_dates(start, end)] if _pages(runs) > 1 else _delivery_hours(start, end)
        async for row, reply in self._rows(RT_SPP, points, windows, needed, runs):
            day = instant_or_error(RT_SPP, row["deliveryDate"]).date()
            hour_start = hour_ending(day, integer(RT_SPP, row["deliveryHour"]), is_set(row["DSTFlag"]))
            starts_at = hour_start + SETTLEMENT_INTERVAL * (integer(RT_SPP, row["deliveryInterval"]) - 1)
            price = row["settlementPointPrice"]
            ticks.append(_tick(Stream.POWER_RT_SPP, row["settlementPoint"], starts_at, price, reply.provenance()))
        return _within(ticks, points, start, end)

    async def da_spp(self, points: Collection[str], start: datetime, end: datetime) -> list[Tick]:
        """Day-ahead settlement point prices of the hours that start in the window, USD/MWh."""
        needed = ("deliveryDate", "hourEnding", "settlementPoint", "settlementPointPrice", "DSTFlag")
        ticks: list[Tick] = []
        runs = _runs(start, end, DAY_AHEAD_INTERVAL)
        async for row, reply in self._rows(DA_SPP, points, [_delivery_dates(start, end)], needed, runs):
            starts_at = _hour_start(DA_SPP, row, "deliveryDate")
            price = row["settlementPointPrice"]
            ticks.append(_tick(Stream.POWER_DA_SPP, row["settlementPoint"], starts_at, price, reply.provenance()))
        return _within(ticks, points, start, end)

    async def da_capacity(self, start: datetime, end: datetime) -> list[CapacityPrice]:
        """Day-ahead clearing prices of capacity in the hours that start in the window, one a product."""
        needed = ("deliveryDate", "hourEnding", "ancillaryType", "MCPC", "DSTFlag")
        found: list[CapacityPrice] = []
        async for row, _ in self._rows(DA_CAPACITY, (), [_delivery_dates(start, end)], needed):
            starts_at = _hour_start(DA_CAPACITY, row, "deliveryDate")
            found.append(CapacityPrice(starts_at, str(row["ancillaryType"]).upper(), number(row["MCPC"])))
        return sorted(one for one in found if start <= one.start_at < end)

    async def zone_load(self, start: datetime, end: datetime) -> list[ZoneLoad]:
        """Actual load in the hours that start in the window, one a weather zone and one of the system."""
        window = _delivery_dates(start, end, "operatingDay")
        needed = ("operatingDay", "hourEnding", *ZONES, "DSTFlag")
        found: list[ZoneLoad] = []
        async for row, _ in self._rows(ZONE_LOAD, (), [window], needed):
            starts_at = _hour_start(ZONE_LOAD, row, "operatingDay")
            found += [ZoneLoad(starts_at, zone, number(row[zone])) for zone in ZONES]
        return sorted(one for one in found if start <= one.start_at < end)

    async def corrections(self, points: Collection[str], since: datetime) -> list[Tick]:
        """Settlement prices, real-time and day-ahead, that have been corrected since an instant: as they are right, USD/MWh.

        What was told first is kept as metadata `corrected_from`, and when it was corrected as `corrected_at`.
        """
        window = {"priceCorrectionTimeFrom": local_window(since, since)[0].strftime(LOCAL_FORMAT)}
        real_time = [tick async for tick in self._corrected(RT_CORRECTIONS, Stream.POWER_RT_SPP, window)]
        day_ahead = [tick async for tick in self._corrected(DA_CORRECTIONS, Stream.POWER_DA_SPP, window)]
        kept = [tick for tick in (*real_time, *day_ahead) if tick.series in points]
        return sorted(kept, key=lambda tick: (tick.metadata["corrected_at"], tick.source_at, tick.series))

    async def _corrected(self, path: str, stream: Stream, window: Mapping[str, str]) -> AsyncIterator[Tick]:
        names = ("deliveryDate", "deliveryHour", "settlementPointName", "SPPOriginal", "SPPCorrected")
        needed = (*names, "priceCorrectionTime", "DSTFlag")
        async for row, reply in self._rows(path, (), [window], needed):
            day = instant_or_error(path, row["deliveryDate"]).date()
            starts_at = hour_ending(day, integer(path, row["deliveryHour"]), is_set(row["DSTFlag"]))
            if stream is Stream.POWER_RT_SPP:
                starts_at += SETTLEMENT_INTERVAL * (integer(path, row.get("deliveryInterval")) - 1)
            corrected_at = from_local(instant_or_error(path, row["priceCorrectionTime"]))
            about: dict[str, Any] = {"corrected_at": corrected_at.isoformat()}
            if math.isfinite(original := number(row["SPPOriginal"])):  # what is no number is no JSON either
                about["corrected_from"] = original
            yield _tick(stream, row["settlementPointName"], starts_at, row["SPPCorrected"], about | reply.provenance())

    async def _rows(
        self,
        path: str,
        points: Collection[str],
        windows: Sequence[Mapping[str, str]],
        needed: Collection[str],
        runs: int = 0,
    ) -> AsyncIterator[tuple[dict[str, Any], Reply]]:
        """Every row of every page of every window, with the reply it came in; what is of the whole system has no points.

        `runs`: how many intervals the windows have together, which decides whether points are asked for one by one.
        """
        pages = _pages(runs)
        by_point = len(points) == 1 or (pages > 1 and 0 < len(points) <= max(FILTERED_POINTS, pages))
        asked: list[str | None] = [*sorted(points)] if by_point else [None]
        for window, point in product(windows, asked):
            query: dict[str, str | int] = {**window, "size": PAGE_SIZE}
            if point is not None:
                query["settlementPoint"] = point
            async for report, reply in self._pages_of(path, query):
                for row in report.rows(path, needed):
                    yield row, reply

    async def _pages_of(self, path: str, query: Mapping[str, str | int]) -> AsyncIterator[tuple[_Report, Reply]]:
        """The pages of one query, in their order."""
        page, pages = 1, 1
        while page <= pages:
            reply = await self._http.get_json(path, {**query, "page": page})
            report = _report(path, reply)
            if report.meta.current_page != page and report.meta.total_pages:
                raise MarketError(f"{path}: page {report.meta.current_page} in place of page {page}: ask again.")
            pages = report.meta.total_pages
            if pages > MAX_PAGES:
                raise MarketError(f"{path}: {pages} pages, the limit is {MAX_PAGES}: ask for a shorter window.")
            yield report, reply
            page += 1


def floor_to(instant: datetime, step: timedelta) -> datetime:
    """The start of the clock interval that an instant falls in (steps divide an hour).

    >>> floor_to(datetime.fromisoformat("2024-07-01T05:05:13+00:00"), timedelta(minutes=5)).isoformat()
    '2024-07-01T05:05:00+00:00'
    """
    seconds = int(instant.timestamp())
    return instant.replace(microsecond=0) - timedelta(seconds=seconds % int(step.total_seconds()))


def _delivery_dates(start: datetime, end: datetime, name: str = "deliveryDate") -> dict[str, str]:
    first, last = local_window(start, end - timedelta(seconds=1))
    return {f"{name}From": first.date().isoformat(), f"{name}To": last.date().isoformat()}


def _delivery_hours(start: datetime, end: datetime) -> list[dict[str, str]]:
    """The delivery hours of a short window: those of each local day it touches.

    >>> start, end = datetime.fromisoformat("2024-07-02T04:45Z"), datetime.fromisoformat("2024-07-02T06:00Z")
    >>> [(each["deliveryDateTo"], each["deliveryHourFrom"], each["deliveryHourTo"]) for each in _delivery_hours(start, end)]
    [('2024-07-01', '24', '24'), ('2024-07-02', '1', '1')]
    """
    first, last = local_window(start, end - timedelta(seconds=1))
    days = [first.date() + timedelta(days=n) for n in range((last.date() - first.date()).days + 1)]
    return [
        {
            "deliveryDateFrom": day.isoformat(), "deliveryDateTo": day.isoformat(),
            "deliveryHourFrom": str(first.hour + 1 if day == first.date() else 1),
            "deliveryHourTo": str(last.hour + 1 if day == last.date() else 24),
        }
        for day in days
    ]  # fmt: skip


def _runs(start: datetime, end: datetime, interval: timedelta) -> int:
    """How many intervals there are in a window."""
    return math.ceil((end - start) / interval)


def _pages(runs: int) -> int:
    """How many pages a report of prices of so many intervals has, about."""
    return math.ceil(runs * REPORT_POINTS / PAGE_SIZE)


def _hour_start(path: str, row: Mapping[str, Any], day_column: str) -> datetime:
    """The UTC start of the hour that a row names by its local day and its end."""
    day = instant_or_error(path, row[day_column]).date()
    hour = integer(path, str(row["hourEnding"]).split(":", maxsplit=1)[0])
    return hour_ending(day, hour, is_set(row["DSTFlag"]))


def _report(path: str, reply: Reply) -> _Report:
    try:
        return _Report.model_validate(reply.body)
    except ValidationError as error:
        raise MarketError(
            f"{path}: not a report page: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}."
        ) from error


def _tick(stream: Stream, point: Any, source_at: datetime, price: Any, metadata: dict[str, Any]) -> Tick:
    return Tick(stream, str(point), source_at, number(price), UNIT, SOURCE, metadata=metadata)


def _within(ticks: list[Tick], points: Collection[str], start: datetime, end: datetime) -> list[Tick]:
    """Those of the wanted points and window, oldest first (runs of one interval in the order of their stamps)."""
    kept = [tick for tick in ticks if tick.series in points and start <= tick.source_at < end]
    return sorted(kept, key=lambda tick: (tick.source_at, tick.series, str(tick.metadata.get("sced_at", ""))))
