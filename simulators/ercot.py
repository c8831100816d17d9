"""ERCOT's public API in its real shape: columns, filters, paging, Central time, error form; and its three price reports.

Selects columns and one page of rows; values come from `series`. Tokens are in `ercot_login`, limits in `gate`.
Source: ercot/api-specs@8bc5467 and the shape notes of docs/world.md.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from typing import Literal

import numpy as np

from simulators.central import day_start_s, local_hour, local_seconds, stamp, to_utc_s
from simulators.clock import iso
from simulators.corrections import as_known
from simulators.series import World
from simulators.streams import BoolArray, FloatArray, IntArray

DEFAULT_PAGE_SIZE = 1000
MAX_PAGE_SIZE = 100_000
MAX_WINDOW_DAYS = 400
_DAM_PUBLISHED_AFTER_S = 13.5 * 3600
_PAGING = ("page", "size", "sort", "dir", "subscription-key")
_SHOWN = 40  # characters of what a client sent, in a message
_TYPES = {"HB": "HU", "LZ": "LZ"}


def shown(text: str) -> str:
    """What a client sent, as far as a message needs it."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


class BadRequestError(Exception):
    """A parameter is wrong; answered with status 400 in ERCOT's shape."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a report: its name and ERCOT's data type."""

    name: str
    data_type: str
    label: str
    has_range: bool = False

    def describe(self, cardinality: int) -> dict[str, object]:
        """The column as listed under `fields`."""
        return {
            "name": self.name,
            "label": self.label,
            "cardinality": cardinality,
            "dataType": self.data_type,
            "searchable": True,
            "sortable": True,
            "hasRange": self.has_range,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A product path and what it serves."""

    path: str
    emil: str
    name: str
    columns: tuple[Column, ...]
    rows: Callable[[World, Mapping[str, str], float], "Rows"]


@dataclass(slots=True)
class Rows:
    """Candidate rows as columns: keys to filter and sort by, and how to write one row."""

    keys: dict[str, np.ndarray]
    is_recorded: BoolArray
    write: Callable[[int], list[object]]
    order: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def answer(world: World, report: Report, query: Mapping[str, str], now_s: float) -> tuple[dict[str, object], int]:
    """The reply to a GET of a report, and how many of its rows were generated.

    Raises:
        BadRequestError: an unknown parameter or a value out of its domain.
    """
    _refuse_unknown(report, query)
    page, size = integer_of(query, "page", 1, 1, 10**9), integer_of(query, "size", DEFAULT_PAGE_SIZE, 1, MAX_PAGE_SIZE)
    rows = report.rows(world, query, now_s)
    chosen = _sorted(report, rows, np.flatnonzero(_selected(report, rows, query)), query)
    pages = math.ceil(len(chosen) / size)
    part = chosen[(page - 1) * size : page * size]
    reply = {
        "_meta": {
            "totalRecords": len(chosen),
            "pageSize": size,
            "totalPages": pages,
            "currentPage": page,
            "query": {key: value for key, value in query.items() if key != "subscription-key"},
        },
        "report": {
            "reportName": report.name,
            "reportDisplayName": report.name,
            "reportId": report.emil,
            "reportEMIL": report.emil,
        },
        "fields": [column.describe(index + 1) for index, column in enumerate(report.columns)],
        "data": [rows.write(int(index)) for index in part],
        "_links": _links(report, query, page, pages),
    }
    return reply, int((~rows.is_recorded[part]).sum())


def refusal(status: int, message: str, now_s: float) -> dict[str, object]:
    """The body of a reply that is none: 400, 403 or 404."""
    phrase = HTTPStatus(status).phrase.upper().replace(" ", "_")
    return {"timestamp": iso(now_s), "code": status, "status": phrase, "message": message, "data": None}


def _links(report: Report, query: Mapping[str, str], page: int, pages: int) -> dict[str, object]:
    def link(number: int) -> dict[str, str]:
        arguments = {**query, "page": str(number)}
        text = "&".join(f"{key}={value}" for key, value in arguments.items() if key != "subscription-key")
        return {"href": f"/api/public-reports{report.path}?{text}"}

    links: dict[str, object] = {"self": link(page), "first": link(1), "last": link(max(1, pages))}
    if page < pages:
        links["next"] = link(page + 1)
    if page > 1:
        links["prev"] = link(page - 1)
    return links


def _refuse_unknown(report: Report, query: Mapping[str, str]) -> None:
    allowed = {*_PAGING}
    for column in report.columns:
        allowed |= {column.name, f"{column.name}From", f"{column.name}To"} if column.has_range else {column.name}
    for key in query:
        if key not in allowed:
            message = f"Unknown parameter {shown(key)}; {report.path} takes {', '.join(sorted(allowed))}"
            raise BadRequestError(message)


def integer_of(query: Mapping[str, str], key: str, default: int, low: int, high: int) -> int:
    """A parameter that is an integer within bounds.

    Raises:
        BadRequestError: it isn't.
    """
    text = query.get(key)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        message = f"{key} must be an integer from {low} to {high}, is {shown(text)!r}"
        raise BadRequestError(message)
    return value


def _day(text: str, key: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        message = f"{key} must be a date yyyy-MM-dd, is {shown(text)!r}"
        raise BadRequestError(message) from None


def reading_of(text: str, key: str) -> datetime:
    """A parameter that is a wall-clock reading.

    Raises:
        BadRequestError: it isn't.
    """
    try:
        reading = datetime.fromisoformat(text)
    except ValueError:
        reading = None
    if reading is None or reading.tzinfo is not None:
        message = f"{key} must be Central time yyyy-MM-ddTHH:mm:ss without an offset, is {shown(text)!r}"
        raise BadRequestError(message)
    return reading


def _boolean(text: str, key: str) -> bool:
    if text.lower() not in {"true", "false"}:
        message = f"{key} must be true or false, is {shown(text)!r}"
        raise BadRequestError(message)
    return text.lower() == "true"


def _comparable(column: Column, text: str, key: str) -> object:
    """A parameter's value in the form the column's keys have."""
    if column.data_type == "BOOLEAN":
        return _boolean(text, key)
    if column.data_type == "DATE":
        return _day(text, key).toordinal()
    if column.data_type == "DATETIME":
        return int(reading_of(text, key).replace(tzinfo=UTC).timestamp())
    if column.data_type in {"DOUBLE", "INTEGER"}:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            message = f"{key} must be a number, is {shown(text)!r}"
            raise BadRequestError(message)
        return number
    return text


def _selected(report: Report, rows: Rows, query: Mapping[str, str]) -> BoolArray:
    mask = np.ones(len(rows.is_recorded), dtype=np.bool_)
    for column in report.columns:
        keys = rows.keys[column.name]
        if column.name in query:
            mask &= keys == _comparable(column, query[column.name], column.name)
        if f"{column.name}From" in query:
            mask &= keys >= _comparable(column, query[f"{column.name}From"], f"{column.name}From")
        if f"{column.name}To" in query:
            mask &= keys <= _comparable(column, query[f"{column.name}To"], f"{column.name}To")
    return mask


def _sorted(report: Report, rows: Rows, chosen: IntArray, query: Mapping[str, str]) -> IntArray:
    by, direction = query.get("sort"), query.get("dir", "asc").lower()
    if direction not in {"asc", "desc"}:
        message = f"dir must be asc or desc, is {shown(direction)!r}"
        raise BadRequestError(message)
    if by is not None:
        if by not in {column.name for column in report.columns}:
            message = f"sort must name a column of {report.path}, is {shown(by)!r}"
            raise BadRequestError(message)
        chosen = chosen[np.argsort(rows.keys[by][chosen], kind="stable")]
    return chosen[::-1] if direction == "desc" else chosen


def _window_s(first_s: int, end_s: int, earliest_end: str) -> tuple[int, int]:
    if end_s - first_s > MAX_WINDOW_DAYS * 86_400:
        message = f"The range is over {MAX_WINDOW_DAYS} days; ask for {earliest_end} in parts"
        raise BadRequestError(message)
    return first_s, max(first_s, end_s)


def date_window_s(query: Mapping[str, str], key: str, now_s: float, days_ahead: int) -> tuple[int, int]:
    """The UTC window that a delivery-date filter asks for; without one, the current operating day (and those ahead)."""
    today = local_hour(int(now_s) // 3600).day
    exact = query.get(key)
    low_text, high_text = exact or query.get(f"{key}From"), exact or query.get(f"{key}To")
    high = _day(high_text, key) if high_text else today + timedelta(days=days_ahead)
    low = _day(low_text, key) if low_text else min(today, high)
    if not date(2000, 1, 1) <= low <= date(2200, 1, 1) or not date(2000, 1, 1) <= high <= date(2200, 1, 1):
        message = f"{key} must lie between 2000-01-01 and 2200-01-01, is {low} to {high}"
        raise BadRequestError(message)
    high = min(high, today + timedelta(days=2))
    return _window_s(day_start_s(low), day_start_s(high + timedelta(days=1)), key)


def point_type(point: str) -> str:
    """What kind of place a settlement point is: a hub, a load zone, a resource node."""
    return _TYPES.get(point[:2], "RN")


def _points(world: World, query: Mapping[str, str]) -> list[str]:
    wanted = query.get("settlementPoint")
    return [point for point in sorted(world.points) if wanted in (None, point)]


def _cross(
    world: World, points: list[str], starts_s: IntArray, kind: Literal["lmp", "spp", "da"], now_s: float
) -> tuple[IntArray, FloatArray, BoolArray]:
    """Instants, values as they are known and sources of every (instant, point) pair, ordered by instant then point."""
    get = {"lmp": world.lmp, "spp": world.spp, "da": world.day_ahead}[kind]
    parts = [get(point, starts_s) for point in points]
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.bool_)
    known = [part.values for part in parts]
    if kind != "lmp":
        told = (world.script, world.config.seed, kind)
        known = [as_known(*told, p, starts_s, v, now_s) for p, v in zip(points, known, strict=True)]
    values = np.stack(known, axis=1).ravel()
    recorded = np.stack([part.is_recorded for part in parts], axis=1).ravel()
    return np.repeat(starts_s, len(points)), values, recorded


def repeated_hours(utc_s: IntArray) -> BoolArray:
    """Whether each instant lies in the second pass of a repeated hour."""
    hours, index = np.unique(utc_s // 3600, return_inverse=True)
    flags = np.array([local_hour(int(hour)).is_repeated for hour in hours], dtype=np.bool_)
    return flags[index] if len(hours) else np.zeros(0, dtype=np.bool_)


def local_ordinals(utc_s: IntArray) -> IntArray:
    """The local day of each instant, as `date.toordinal` counts."""
    return local_seconds(utc_s) // 86_400 + date(1970, 1, 1).toordinal()


def sced_delays_s(starts_s: IntArray) -> IntArray:
    """Seconds after each interval's beginning at which its SCED run is stamped: irregular, 3 to 19."""
    return 3 + (starts_s // 300 * 2_654_435_761 >> 16) % 17


def _lmp_rows(world: World, query: Mapping[str, str], now_s: float) -> Rows:
    key = "SCEDTimestamp"
    exact = query.get(key)
    low_text, high_text = exact or query.get(f"{key}From"), exact or query.get(f"{key}To")
    end_s = int(min(now_s, to_utc_s(reading_of(high_text, f"{key}To"), late=True) if high_text else now_s))
    first_s = to_utc_s(reading_of(low_text, f"{key}From")) if low_text else end_s - 86_400
    first_s, end_s = _window_s(first_s, end_s, key)
    starts_s = np.arange(first_s - first_s % 300, end_s + 1, 300, dtype=np.int64)
    stamps_s = starts_s + sced_delays_s(starts_s)
    starts_s, stamps_s = starts_s[stamps_s <= now_s], stamps_s[stamps_s <= now_s]
    points = _points(world, query)
    _, values, recorded = _cross(world, points, starts_s, "lmp", now_s)
    at_s, names = np.repeat(stamps_s, len(points)), np.tile(np.array(points, dtype=np.str_), len(starts_s))
    repeated = repeated_hours(at_s)
    keys = {key: local_seconds(at_s), "repeatHourFlag": repeated, "settlementPoint": names, "LMP": values}

    def write(row: int) -> list[object]:
        return [stamp(int(at_s[row])), bool(repeated[row]), str(names[row]), float(values[row])]

    return Rows(keys, recorded, write)


def _spp_rows(world: World, query: Mapping[str, str], now_s: float) -> Rows:
    first_s, end_s = date_window_s(query, "deliveryDate", now_s, 0)
    starts_s = np.arange(first_s, min(end_s, int(now_s) - 899), 900, dtype=np.int64)
    points = _points(world, query)
    at_s, values, recorded = _cross(world, points, starts_s, "spp", now_s)
    names = np.tile(np.array(points, dtype=np.str_), len(starts_s))
    types = np.tile(np.array([point_type(point) for point in points], dtype=np.str_), len(starts_s))
    repeated, local_s = repeated_hours(at_s), local_seconds(at_s)
    hours, quarters = local_s % 86_400 // 3600 + 1, local_s % 3600 // 900 + 1
    keys = {
        "deliveryDate": local_ordinals(at_s),
        "deliveryHour": hours,
        "deliveryInterval": quarters,
        "settlementPoint": names,
        "settlementPointType": types,
        "settlementPointPrice": values,
        "DSTFlag": repeated,
    }

    def write(row: int) -> list[object]:
        place = [stamp(int(at_s[row]))[:10], int(hours[row]), int(quarters[row])]
        return [*place, str(names[row]), str(types[row]), float(values[row]), bool(repeated[row])]

    return Rows(keys, recorded, write)


def day_ahead_hours(query: Mapping[str, str], now_s: float) -> IntArray:
    """The hours asked for whose day-ahead results are published: the next day's at 13:30 Central."""
    first_s, end_s = date_window_s(query, "deliveryDate", now_s, 1)
    last_day = local_hour(int(now_s) // 3600).day
    if now_s - day_start_s(last_day) >= _DAM_PUBLISHED_AFTER_S:
        last_day += timedelta(days=1)
    return np.arange(first_s, min(end_s, day_start_s(last_day + timedelta(days=1))), 3600, dtype=np.int64)


def hour_endings(utc_s: IntArray) -> "np.ndarray[tuple[int], np.dtype[np.str_]]":
    """How reports name the hours that begin at these instants: `01:00` to `24:00`."""
    return np.asarray(np.char.mod("%02d:00", local_seconds(utc_s) % 86_400 // 3600 + 1))


def _dam_rows(world: World, query: Mapping[str, str], now_s: float) -> Rows:
    starts_s = day_ahead_hours(query, now_s)
    points = _points(world, query)
    at_s, values, recorded = _cross(world, points, starts_s, "da", now_s)
    names = np.tile(np.array(points, dtype=np.str_), len(starts_s))
    repeated = repeated_hours(at_s)
    endings = hour_endings(at_s)
    keys = {
        "deliveryDate": local_ordinals(at_s),
        "hourEnding": endings,
        "settlementPoint": names,
        "settlementPointPrice": values,
        "DSTFlag": repeated,
    }

    def write(row: int) -> list[object]:
        day = stamp(int(at_s[row]))[:10]
        return [day, str(endings[row]), str(names[row]), float(values[row]), bool(repeated[row])]

    return Rows(keys, recorded, write)


_POINT = Column("settlementPoint", "VARCHAR", "Settlement Point")
DST = Column("DSTFlag", "BOOLEAN", "DST Flag")
DATE = Column("deliveryDate", "DATE", "Delivery Date", has_range=True)
_SPP = Column("settlementPointPrice", "DOUBLE", "Settlement Point Price", has_range=True)

REPORTS = (
    Report(
        "/np6-788-cd/lmp_node_zone_hub",
        "NP6-788-CD",
        "LMPs by Resource Nodes, Load Zones and Trading Hubs",
        (
            Column("SCEDTimestamp", "DATETIME", "SCED Timestamp", has_range=True),
            Column("repeatHourFlag", "BOOLEAN", "Repeat Hour Flag"),
            _POINT,
            Column("LMP", "DOUBLE", "LMP", has_range=True),
        ),
        _lmp_rows,
    ),
    Report(
        "/np6-905-cd/spp_node_zone_hub",
        "NP6-905-CD",
        "Settlement Point Prices at Resource Nodes, Hubs and Load Zones",
        (
            DATE,
            Column("deliveryHour", "INTEGER", "Delivery Hour", has_range=True),
            Column("deliveryInterval", "INTEGER", "Delivery Interval", has_range=True),
            _POINT,
            Column("settlementPointType", "VARCHAR", "Settlement Point Type"),
            _SPP,
            DST,
        ),
        _spp_rows,
    ),
    Report(
        "/np4-190-cd/dam_stlmnt_pnt_prices",
        "NP4-190-CD",
        "DAM Settlement Point Prices",
        (DATE, Column("hourEnding", "VARCHAR", "Hour Ending"), _POINT, _SPP, DST),
        _dam_rows,
    ),
)
