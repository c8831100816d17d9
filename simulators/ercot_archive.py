"""ERCOT's public API beside its reports: the list of products, the version, and archives of what was posted, as zipped CSV files.

A posting holds the rows of one run, interval or day; its id is a function of its product and time, so that none has to be kept.
CSV headers are not the JSON's. Source: the shape notes of docs/world.md; bundles and products are those of the API's own links.
"""

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np

from simulators.central import day_start_s, local_hour, local_seconds, stamp, to_utc_s
from simulators.ercot import BadRequestError, Report, integer_of, reading_of
from simulators.series import World

ROOT: Final = "/api/public-reports"
MOST_DOCUMENTS: Final = 1000  # of one download
MOST_PAGE: Final = 1000
_BACK_S: Final = 7 * 86_400  # how far the list goes back unless asked otherwise
_MOST_BACK_S: Final = 400 * 86_400


class Product(NamedTuple):
    """A report as files: how often it is posted, how long after the beginning of what it holds, and its columns in CSV."""

    report: Report
    number: int
    every_s: int
    after_s: int
    headers: tuple[str, ...]


class Posting(NamedTuple):
    """One file: its id, when it was posted, and the beginning of what it holds."""

    doc_id: int
    posted_s: int
    start_s: int


_DAY_BEFORE_S = -37_800  # at 13:30 Central on the day before
# By product: its number, how often it is posted, how long after its beginning, its columns.
_FILES: Final[Mapping[str, tuple[int, int, int, tuple[str, ...]]]] = {
    "NP6-788-CD": (12300, 300, 20, ("SCEDTimestamp", "RepeatedHourFlag", "SettlementPoint", "LMP")),
    "NP6-905-CD": (12301, 900, 960, (
        "DeliveryDate", "DeliveryHour", "DeliveryInterval", "SettlementPointName", "SettlementPointType", "SettlementPointPrice",
        "DSTFlag",
    )),
    "NP4-190-CD": (12331, 86_400, _DAY_BEFORE_S, (
        "DeliveryDate", "HourEnding", "SettlementPoint", "SettlementPointPrice", "DSTFlag",
    )),
    "NP4-188-CD": (12329, 86_400, _DAY_BEFORE_S, ("DeliveryDate", "HourEnding", "AncillaryType", "MCPC", "DSTFlag")),
    "NP6-345-CD": (13101, 86_400, 90_000, (
        "OperDay", "HourEnding", "COAST", "EAST", "FAR_WEST", "NORTH", "NORTH_C", "SOUTHERN", "SOUTH_C", "WEST", "TOTAL",
        "DSTFlag",
    )),
    "NP6-346-CD": (14836, 86_400, 90_000, (
        "OperDay", "HourEnding", "NORTH", "SOUTH", "WEST", "HOUSTON", "TOTAL", "DSTFlag",
    )),
}  # fmt: skip


def products(reports: tuple[Report, ...]) -> dict[str, Product]:
    """The reports that have archives, by their id."""
    return {each.emil: Product(each, *_FILES[each.emil]) for each in reports if each.emil in _FILES}


def listing(every: Mapping[str, Product]) -> dict[str, object]:
    """The products there are."""
    return {"_embedded": {"products": [described(product) for product in every.values()]}, "_links": _self(ROOT)}


def described(product: Product) -> dict[str, object]:
    """A product as the API tells it."""
    emil, name = product.report.emil, product.report.name
    artifact = {"displayName": name, "_links": {"endpoint": {"href": ROOT + product.report.path}}}
    return {
        "emilId": emil, "name": name, "description": name, "status": "ACTIVE", "reportTypeId": product.number,
        "audience": "Public", "generationFrequency": f"every {product.every_s} s", "securityClassification": "Public",
        "contentType": "DATA", "artifacts": [artifact],
        "_links": {**_self(f"{ROOT}/{emil.lower()}"), "archive": {"href": f"{ROOT}/archive/{emil.lower()}"}},
    }  # fmt: skip


def archives(product: Product, query: Mapping[str, str], now_s: float) -> dict[str, object]:
    """A page of postings, newest first."""
    page, size = integer_of(query, "page", 1, 1, 10**6), integer_of(query, "size", MOST_PAGE, 1, MOST_PAGE)
    first_text, last_text = query.get("postDatetimeFrom"), query.get("postDatetimeTo")
    last_s = min(now_s, to_utc_s(reading_of(last_text, "postDatetimeTo"), late=True) if last_text else now_s)
    first_s = to_utc_s(reading_of(first_text, "postDatetimeFrom")) if first_text else last_s - _BACK_S
    if last_s - first_s > _MOST_BACK_S:
        message = "The range of postDatetime is over 400 days; ask for it in parts"
        raise BadRequestError(message)
    found = [posting for posting in _postings(product, first_s, last_s) if first_s <= posting.posted_s <= last_s]
    pages = -(-len(found) // size)
    emil = product.report.emil
    path = f"{ROOT}/archive/{emil.lower()}"
    shown = found[(page - 1) * size : page * size]
    meta = {"totalRecords": len(found), "pageSize": size, "totalPages": pages, "currentPage": page}
    rows = [
        {
            "docId": posting.doc_id, "friendlyName": _file_name(product, posting), "postDatetime": stamp(posting.posted_s),
            "_links": {"endpoint": {"href": f"{path}?download={posting.doc_id}"}},
        }
        for posting in shown
    ]  # fmt: skip
    return {"_meta": meta, "product": described(product), "archives": rows, "_links": _self(path)}


def document(world: World, product: Product, doc_id: int, now_s: float) -> bytes:
    """The zip file of a posting.

    Raises:
        BadRequestError: there is none of that id.
    """
    posting = _posting_of(product, doc_id)
    if posting is None or posting.posted_s > now_s:
        message = f"There is no document {doc_id} of {product.report.emil}"
        raise BadRequestError(message)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(product.headers)
    writer.writerows(_rows(world, product, posting, now_s))
    name = _file_name(product, posting)
    return _zipped({f"{name}.csv": text.getvalue().encode()})


def bundle(world: World, product: Product, doc_ids: object, now_s: float) -> bytes:
    """A zip file of the zip files of several postings, each by its id.

    Raises:
        BadRequestError: what is asked for is no list of ids, or too long a one.
    """
    if (
        not isinstance(doc_ids, list)
        or not 0 < len(doc_ids) <= MOST_DOCUMENTS
        or not all(type(n) is int for n in doc_ids)
    ):
        message = f"docIds must be a list of 1 to {MOST_DOCUMENTS} numbers"
        raise BadRequestError(message)
    return _zipped({f"{doc_id}.zip": document(world, product, doc_id, now_s) for doc_id in doc_ids})


def _postings(product: Product, first_s: float, last_s: float) -> Iterator[Posting]:
    """The postings of a span of time, newest first, and a few around it."""
    step = int((last_s - product.after_s) // product.every_s) + 1
    while (posting := _posting(product, step)).posted_s >= first_s - product.every_s:
        yield posting
        step -= 1


def _posting(product: Product, step: int) -> Posting:
    """The posting of an interval by its number since 1970; days are those of the market."""
    start_s = step * product.every_s
    if product.every_s == 86_400:
        start_s = day_start_s((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=step)).date())
    return Posting(product.number * 10**8 + step, start_s + product.after_s, start_s)


def _posting_of(product: Product, doc_id: int) -> Posting | None:
    number, step = divmod(doc_id, 10**8)
    return _posting(product, step) if number == product.number and step > 0 else None


def _rows(world: World, product: Product, posting: Posting, now_s: float) -> Iterator[list[object]]:
    """The rows of a posting, as its CSV has them."""
    report = product.report
    local, local_s = local_hour(posting.start_s // 3600), int(local_seconds(np.array([posting.start_s]))[0])
    query = {f"{report.columns[0].name}{side}": local.day.isoformat() for side in ("From", "To")}
    if product.every_s == 300:
        query = {"SCEDTimestampFrom": stamp(posting.start_s), "SCEDTimestampTo": stamp(posting.start_s + 299)}
    rows = report.rows(world, query, now_s)
    chosen = np.arange(len(rows.is_recorded))
    if product.every_s == 900:
        chosen = np.flatnonzero(
            (rows.keys["deliveryHour"] == local.hour + 1)
            & (rows.keys["deliveryInterval"] == local_s % 3600 // 900 + 1)
            & (rows.keys["DSTFlag"] == local.is_repeated)
        )
    elif product.every_s == 300:
        stamps_s = rows.keys["SCEDTimestamp"]
        is_within = (stamps_s >= local_s) & (stamps_s < local_s + 300)
        chosen = np.flatnonzero(is_within & (rows.keys["repeatHourFlag"] == local.is_repeated))
    for row in chosen:
        yield [_written(value) for value in rows.write(int(row))]


def _written(value: object) -> object:
    """A value as CSV has it: flags Y and N, days and instants the American way."""
    if isinstance(value, bool):
        return "Y" if value else "N"
    if isinstance(value, str) and value[4:5] == value[7:8] == "-":
        return f"{value[5:7]}/{value[8:10]}/{value[:4]}" + (f" {value[11:]}" if len(value) > 10 else "")
    return value


def _file_name(product: Product, posting: Posting) -> str:
    return f"{product.report.emil.replace('-', '')}_{stamp(posting.posted_s).replace(':', '').replace('-', '').replace('T', '_')}"


def _zipped(files: Mapping[str, bytes]) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2025, 1, 1, 0, 0, 0)), content)
    return found.getvalue()


def _self(path: str) -> dict[str, object]:
    return {"self": {"href": path}}
