"""What `hcp backfill` asks for and follows, and what the gap sensor finds: plans, and a webserver that goes away."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError, NotRunningError
from hcp_pipelines.orchestration import backfilling
from hcp_pipelines.orchestration.backfilling import Backfilling
from hcp_pipelines.orchestration.history.plan import JOINED, Order, assets_by_source, gaps, orders

NOW = datetime(2024, 6, 10, 15, tzinfo=UTC)
TODAY = datetime(2024, 6, 10, tzinfo=UTC)
EVERYTHING = [name for names in assets_by_source().values() for name in names]


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_request_a_source_the_joined_ones_last():
    found, notes = orders(EVERYTHING, day("2024-06-01"), TODAY, NOW)
    assert [order.source for order in found] == [
        "ercot", "open_meteo", "coinbase", "kraken", "bitstamp", "binance", "gemini", "mempool", "hcp", JOINED,
    ]  # fmt: skip
    assert {order.days for order in found} == {tuple(f"2024-06-0{n}" for n in range(1, 10))}
    assert len(found[0].assets) == 4
    assert notes == []


def test_what_a_source_no_longer_keeps_is_left_out_and_said():
    found, notes = orders(["raw_kraken__candles", "raw_coinbase__candles"], day("2024-02-01"), day("2024-03-01"), NOW)
    assert {order.source: len(order.days) for order in found} == {"coinbase": 29, "kraken": 16}
    assert notes == ["kraken no longer keeps 13 of these days, until 2024-02-13"]


@pytest.mark.parametrize(
    ("assets", "start", "end", "said"),
    [
        (["raw_ercot__rt_sp"], "2024-06-01", "2024-06-02", "Did you mean raw_ercot__rt_spp"),
        (["raw_ercot__rt_spp"], "2024-06-02", "2024-06-02", "1 to 1000 can be asked for"),
        (["raw_ercot__rt_spp"], "2024-06-01T12:00", "2024-06-02", "days begin at midnight UTC"),
        (["raw_ercot__rt_spp"], "2024-06-01", "2024-06-12", "begun ends on 2024-06-11"),
        (["raw_ercot__rt_spp"], "2023-06-01", "2024-06-02", "the first day there can be is 2024-01-01"),
    ],
)
def test_what_can_not_be_asked_for(assets, start, end, said):
    with pytest.raises(ConfigError, match=said):
        orders(assets, day(start), day(end), NOW)


def test_gaps_are_days_that_are_over_and_joined_ones_wait_for_their_sources():
    complete = {name: {"2024-06-08", "2024-06-09"} for name in EVERYTHING}
    since = day("2024-06-08T07:00")
    assert gaps(complete, since, NOW, 30) == []
    lacking = complete | {"raw_ercot__zone_load": {"2024-06-09"}, "core_power__settled_prices": set()}
    assert gaps(lacking, since, NOW, 30) == [Order("ercot", assets_by_source()["ercot"], ("2024-06-08",))]
    lacking["raw_ercot__zone_load"] = {"2024-06-08", "2024-06-09"}
    assert [(order.source, order.days) for order in gaps(lacking, since, NOW, 30)] == [
        (JOINED, ("2024-06-08", "2024-06-09"))
    ]
    assert {len(order.days) for order in gaps({}, day("2024-01-05"), NOW, 7)} == {7}, "bounded"


class Webserver:
    """Dagster's API as far as it is asked: each look at a backfill has one more day done, and now and then nobody answers."""

    def __init__(self, days, fails=(), away=0):
        self.days, self.fails, self.away = days, fails, away
        self.asked, self.looks = [], {}

    def __call__(self, request):
        if self.away:
            self.away -= 1
            raise httpx.ConnectError("refused by nobody")
        body = json.loads(request.content)
        if "params" in body["variables"]:
            self.asked.append(body["variables"]["params"])
            reply = {
                "launchPartitionBackfill": {"__typename": "LaunchBackfillSuccess", "backfillId": f"b{len(self.asked)}"}
            }
        else:
            reply = {"partitionBackfillOrError": self.backfill(body["variables"]["id"])}
        return httpx.Response(200, json={"data": reply})

    def backfill(self, name):
        self.looks[name] = self.looks.get(name, 0) + 1
        assets = [asset["path"] for asset in self.asked[int(name[1:]) - 1]["assetSelection"]]
        is_over, has_failed = self.looks[name] >= self.days, any(path[0] in self.fails for path in assets)
        counts = [
            {
                "assetKey": {"path": path}, "numPartitionsTargeted": self.days,
                "numPartitionsMaterialized": 0 if path[0] in self.fails else min(self.looks[name], self.days),
                "numPartitionsFailed": self.days if path[0] in self.fails else 0,
            }
            for path in assets
        ]  # fmt: skip
        status = ("COMPLETED_FAILED" if has_failed else "COMPLETED_SUCCESS") if is_over else "REQUESTED"
        return {"__typename": "PartitionBackfill", "status": status, "error": None,
                "assetBackfillData": {"assetBackfillStatuses": counts}}  # fmt: skip


ASKED = [Order("ercot", ("a", "b"), ("1", "2")), Order("kraken", ("c",), ("1", "2")), Order(JOINED, ("d",), ("1", "2"))]


async def follow(webserver, monkeypatch):
    monkeypatch.setattr(backfilling, "POLL_S", 0.001)
    shown = []
    async with httpx.AsyncClient(transport=httpx.MockTransport(webserver)) as client:
        work = Backfilling(client, 1, SystemClock())
        await work.run(ASKED, lambda *said: shown.append(said))
    return work.backfills, shown


async def test_sources_together_then_what_is_joined_through_a_webserver_that_comes_back(monkeypatch):
    webserver = Webserver(days=2, away=3)
    done, shown = await follow(webserver, monkeypatch)
    assert all(each.is_complete for each in done)
    assert [params["title"] for params in webserver.asked] == ["ercot: 1 to 2", "kraken: 1 to 2", "joined: 1 to 2"]
    assert [said for said in shown if said[0] == "a"] == [("a", 1, 2), ("a", 2, 2)]


async def test_what_is_joined_is_not_asked_for_where_a_source_failed(monkeypatch):
    done, _ = await follow(Webserver(days=2, fails=("b",)), monkeypatch)
    assert [(each.order.source, each.is_complete) for each in done] == [("ercot", False), ("kraken", True)]
    assert done[0].failed == {"a": 0, "b": 2}


async def test_a_webserver_that_stays_away_is_said_with_what_was_asked_for(monkeypatch):
    monkeypatch.setattr(backfilling, "AWAY_AT_MOST_S", 0.02)
    with pytest.raises(NotRunningError, match=r"does not answer .* go on without it: none. Is `hcp up` running"):
        await follow(Webserver(days=1, away=10**9), monkeypatch)
