"""ERCOT's products and archives: postings by page, one file and many, the same prices as in the reports under other headers."""

import csv
import io
import zipfile
from datetime import UTC, datetime

import pytest

from tests.contract.test_world_http import DAM, LMP, SPP, START_S, Client, rows

ROOT = "/api/public-reports"
ARCHIVE = f"{ROOT}/archive"
NOW_S = START_S + 30 * 3600


def unpacked(content):
    """The files in a zip file, by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def table(content):
    """The rows of the one CSV file in a zip file."""
    (text,) = unpacked(content).values()
    return list(csv.DictReader(io.StringIO(text.decode())))


async def test_products_link_to_their_reports_and_archives():
    client = Client(NOW_S)
    products = (await client.get(ROOT))["_embedded"]["products"]
    assert {each["emilId"] for each in products} == {
        "NP6-788-CD",
        "NP6-905-CD",
        "NP4-190-CD",
        "NP4-188-CD",
        "NP6-345-CD",
        "NP6-346-CD",
    }
    one = await client.get(f"{ROOT}/np6-905-cd")
    assert one["artifacts"][0]["_links"]["endpoint"]["href"] == SPP
    assert one["_links"]["archive"]["href"] == f"{ARCHIVE}/np6-905-cd"
    assert set(await client.get(f"{ROOT}/version")) == {"version", "name"}
    for path in (f"{ROOT}/np0-000-cd", f"{ARCHIVE}/np0-000-cd"):
        refused = await client.get(path, expected=404)
        assert set(refused) == {"timestamp", "code", "status", "message", "data"}
        assert (refused["code"], refused["status"]) == (404, "NOT_FOUND")


async def postings(client, emil, **query):
    return (await client.get(f"{ARCHIVE}/{emil}", **query))["archives"]


async def downloaded(client, posting):
    reply = await client.http.get(posting["_links"]["endpoint"]["href"])
    assert reply.headers["content-type"] == "application/zip"
    return table(reply.content)


async def test_a_posting_of_each_product_has_what_its_report_has():
    client = Client(NOW_S)
    newest = await downloaded(client, (await postings(client, "np6-788-cd"))[0])
    report = await rows(client, LMP, SCEDTimestampFrom="2025-01-01T23:55:00")
    assert [(r["SettlementPoint"], float(r["LMP"])) for r in newest] == [
        (r["settlementPoint"], r["LMP"]) for r in report
    ]
    assert newest[0]["SCEDTimestamp"].startswith("01/01/2025 23:55:")
    assert newest[0]["RepeatedHourFlag"] == "N"

    span = {"postDatetimeFrom": "2025-01-01T18:10:00", "postDatetimeTo": "2025-01-01T18:20:00"}
    (quarter,) = await postings(client, "np6-905-cd", **span)
    told = await downloaded(client, quarter)
    report = await rows(client, SPP, deliveryDate="2025-01-01", deliveryHour=19, deliveryInterval=1)
    assert [(r["SettlementPointName"], float(r["SettlementPointPrice"])) for r in told] == [
        (r["settlementPoint"], r["settlementPointPrice"]) for r in report
    ]
    assert {(r["DeliveryDate"], r["DeliveryHour"], r["DeliveryInterval"]) for r in told} == {("01/01/2025", "19", "1")}

    day_ahead = (await postings(client, "np4-190-cd"))[0]
    assert day_ahead["postDatetime"] == "2025-01-01T13:30:00"
    told, report = await downloaded(client, day_ahead), await rows(client, DAM, deliveryDate="2025-01-02")
    assert [float(r["SettlementPointPrice"]) for r in told] == [r["settlementPointPrice"] for r in report]
    assert len(await downloaded(client, (await postings(client, "np6-345-cd"))[0])) == 24
    by_zone = await downloaded(client, (await postings(client, "np6-346-cd"))[0])
    assert [len(by_zone), by_zone[0]["HOUSTON"]] == [
        24,
        (await downloaded(client, (await postings(client, "np6-345-cd"))[0]))[0]["COAST"],
    ]


async def test_postings_are_paged_newest_first_each_once():
    client = Client(NOW_S)
    asked = {"postDatetimeFrom": "2024-12-31T18:00:00", "postDatetimeTo": "2025-01-01T17:59:59"}
    whole = await postings(client, "np6-788-cd", **asked)
    assert len(whole) == 24 * 12
    assert [each["postDatetime"] for each in whole] == sorted({each["postDatetime"] for each in whole}, reverse=True)
    parts = [each for page in (1, 2, 3) for each in await postings(client, "np6-788-cd", **asked, size=100, page=page)]
    assert parts == whole


async def test_many_are_downloaded_at_once_as_files_within_a_file():
    client = Client(NOW_S)
    ids = [each["docId"] for each in (await postings(client, "np6-905-cd"))[:5]]
    reply = await client.http.post(f"{ARCHIVE}/np6-905-cd/download", json={"docIds": ids})
    files = unpacked(reply.content)
    assert set(files) == {f"{doc_id}.zip" for doc_id in ids}
    assert all(len(table(content)) == 2 for content in files.values())


@pytest.mark.parametrize(("hour", "flag"), [(6, "N"), (7, "Y")])
async def test_both_passes_of_the_repeated_hour_have_postings_of_their_own(hour, flag):
    client = Client(datetime(2024, 11, 3, hour, 31, 5, tzinfo=UTC).timestamp())
    for emil in ("np6-788-cd", "np6-905-cd"):
        told = await downloaded(client, (await postings(client, emil))[0])
        assert {row.get("RepeatedHourFlag", row.get("DSTFlag")) for row in told} == {flag}
        assert len(told) == 2


TOO_MANY = b'{"docIds": [' + b"1," * 1000 + b"1]}"


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"[]", b'{"docIds": []}', b'{"docIds": ["1"]}', b'{"docIds": [1]}', b'{"docIds": [true]}',
     TOO_MANY, bytes(10**5)],
)  # fmt: skip
async def test_a_wrong_download_is_refused(body):
    client = Client(NOW_S)
    reply = await client.http.post(f"{ARCHIVE}/np6-905-cd/download", content=body)
    assert (reply.status_code, reply.json()["status"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    "query",
    [{"download": "x"}, {"download": "9" * 5000}, {"download": "1"}, {"postDatetimeFrom": "2010-01-01T00:00:00"},
     {"postDatetimeFrom": "soon"}, {"size": "5000"}],
)  # fmt: skip
async def test_a_wrong_question_to_the_archive_is_refused(query):
    refused = await Client(NOW_S).get(f"{ARCHIVE}/np6-788-cd", expected=400, **query)
    assert len(refused["message"]) < 200


async def test_what_is_not_posted_yet_can_not_be_had():
    client = Client(NOW_S)
    newest = (await postings(client, "np6-788-cd"))[0]["docId"]
    await client.get(f"{ARCHIVE}/np6-788-cd", expected=400, download=newest + 1)
