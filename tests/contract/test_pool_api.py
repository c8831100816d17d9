"""The pool's statistics as somebody else's client reads them: plain httpx, the members of the public API by name."""

import asyncio
import contextlib
from collections import Counter

import httpx
import pytest
from pyroaring import BitMap

from simulators.bitcoin import Block
from tests.support.pool import EASY_DIFFICULTY, START_S, PoolWorld
from tests.support.stratum_v1 import Miner

FULL, ASLEEP, DAY_S = 3, 0, 86_400
TOKEN = "a-token-of-the-account"


class Served(PoolWorld):
    """A pool whose statistics are asked for with a token."""

    def __init__(self, folder, **options):
        (folder / "token").write_text(TOKEN + "\n")
        super().__init__(folder, token_file=folder / "token", **options)
        self.client = httpx.AsyncClient(
            base_url=self.pool.urls["pool-api"], headers={"Pool-Auth-Token": TOKEN}, trust_env=False
        )

    async def __aexit__(self, *about):
        await self.client.aclose()
        await super().__aexit__(*about)

    def mine(self, slots=range(8)):
        for site in self.fleet.sites.values():
            self.transitions.set_state(site, bytes(16), 0, FULL, BitMap(slots))

    def pass_time(self, until_s):
        """The world's own upkeep, window by window."""
        while self.clock.at_s < START_S + until_s:
            self.clock.at_s = min(self.clock.at_s + 3600, START_S + until_s)
            for site in self.fleet.sites.values():
                site.advance(self.clock.at_s)

    async def get(self, path, **query):
        reply = await self.client.get(path, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json()


async def test_workers_are_told_page_by_page(tmp_path):
    async with Served(tmp_path, sites=("one", "two"), devices=8) as world:
        world.mine(range(5))
        world.pass_time(2 * 3600)
        found = {}
        for page in (1, 2, 3, 4):
            told = (await world.get("/accounts/workers/json/btc/", page=page, page_size=6))["btc"]
            assert told["pagination"] == {"page": page, "page_size": 6, "item_count": 16, "page_count": 3}
            assert len(told["workers"]) == (6, 6, 4, 0)[page - 1]
            found |= told["workers"]
        assert set(found) == {f"hcp.{site}.{slot}" for site in ("one", "two") for slot in range(8)}
        one = found["hcp.two.4"]
        assert one["state"] == "ok"
        assert one["hash_rate_unit"] == "Gh/s"
        assert one["hash_rate_60m"] == pytest.approx(200_000, rel=0.15)
        assert one["shares_24h"] == one["valid_shares"] * 131_072
        assert found["hcp.two.5"] == {
            "state": "off", "last_share": 0, "hash_rate_unit": "Gh/s", "hash_rate_5m": 0.0, "hash_rate_60m": 0.0,
            "hash_rate_24h": 0.0, "shares_5m": 0, "shares_60m": 0, "shares_24h": 0,
            "valid_shares": 0, "stale_shares": 0, "rejected_shares": 0,
        }  # fmt: skip


async def test_days_rewards_and_rates_agree(tmp_path):
    async with Served(tmp_path) as world:
        world.mine()
        world.pass_time(DAY_S + 1800)
        told = (await world.get("/accounts/workers_daily/json/btc", date="2025-01-01"))["btc"]
        assert (told["date"], told["is_final"], len(told["workers"])) == (START_S, True, 8)
        total = sum(one["total_shares"] for one in told["workers"].values())
        (daily,) = (await world.get("/accounts/hash_rate_daily/json/hcp/btc", **{"from": "2025-01-01"}))["btc"]
        assert daily["total_shares"] == total
        assert daily["hash_rate_24h"] == pytest.approx(total * 2**32 / DAY_S / 1e9)
        (reward,) = (await world.get("/accounts/rewards/json/btc", **{"from": "2025-01-01"}))["btc"]["daily_rewards"]
        pool = (await world.get("/stats/json/btc"))["btc"]
        assert (pool["pool_fee"], pool["payout"]) == ("0.0200", "FPPS")
        assert float(reward["total_reward"]) == pytest.approx(total * float(pool["fpps_rate"]) * 0.98, rel=0.05)
        profile = (await world.get("/accounts/profile/json/btc"))["btc"]
        assert (profile["ok_workers"], profile["off_workers"]) == (8, 0)
        assert float(profile["today_reward"]) > 0
        running = (await world.get("/accounts/workers_daily/json/btc", date="2025-01-02"))["btc"]
        assert running["is_final"] is False


async def test_daily_hashrates_are_told_of_the_group_of_the_user_and_of_nobody_else(tmp_path):
    async with Served(tmp_path) as world:
        world.mine()
        world.pass_time(DAY_S + 600)
        told = [await world.get(f"/accounts/hash_rate_daily/json/{group}/btc") for group in ("group", "user", "hcp")]
        assert told[0]["btc"][-1]["hash_rate_24h"] > 0
        assert told[0] == told[1] == told[2]
        assert (await world.client.get("/accounts/hash_rate_daily/json/somebody/btc")).status_code == 404


async def test_the_profile_counts_each_state_and_adds_up(tmp_path):
    async with Served(tmp_path, sites=("one", "two"), devices=8) as world:
        world.mine(range(5))
        world.pass_time(DAY_S + 4 * 3600)
        site = world.fleet.sites["two"]
        world.transitions.set_state(site, bytes(16), 0, ASLEEP, BitMap(range(3)))  # low, as long as they are not off
        world.clock.at_s += 600
        site.advance(world.clock.at_s)
        world.fleet.sites["one"].advance(world.clock.at_s)
        workers = (await world.get("/accounts/workers/json/btc"))["btc"]["workers"].values()
        profile = (await world.get("/accounts/profile/json/btc"))["btc"]
        counted = Counter(one["state"] for one in workers)
        assert counted == {"ok": 7, "low": 3, "off": 6}
        assert {state: profile[f"{state}_workers"] for state in ("ok", "low", "off", "dis")} == counted | {"dis": 0}
        for span in ("5m", "60m", "24h"):
            assert profile[f"shares_{span}"] == sum(one[f"shares_{span}"] for one in workers) > 0
        assert profile["shares_5m"] * 2**32 / 300 / 1e9 == pytest.approx(profile["hash_rate_5m"], rel=1e-6)
        (daily,) = (await world.get("/accounts/hash_rate_daily/json/user/btc", **{"from": "2025-01-01"}))["btc"]
        assert (profile["hash_rate_yesterday"], profile["shares_yesterday"]) == (
            daily["hash_rate_24h"],
            daily["total_shares"],
        )
        (reward,) = (await world.get("/accounts/rewards/json/btc", **{"from": "2025-01-01"}))["btc"]["daily_rewards"]
        assert float(reward["bos_plus_reward"]) == 0.0
        earned = float(reward["total_reward"]) + float(profile["today_reward"])
        assert float(profile["all_time_reward"]) == pytest.approx(earned, abs=2e-8)
        assert profile["current_balance"] == profile["all_time_reward"]
        pool = (await world.get("/stats/json/btc"))["btc"]
        ten_minutes = 2 * profile["shares_5m"] * float(pool["fpps_rate"]) * 0.98
        assert float(profile["estimated_reward"]) == pytest.approx(ten_minutes, rel=0.01, abs=1e-8)
        assert await world.get("/accounts/payouts/json/btc") == {"onchain": [], "lightning": []}


async def test_all_sites_count_at_one_instant_and_others_have_their_turn_in_between(tmp_path):
    async with PoolWorld(tmp_path, sites=("one", "two", "three")) as world:
        seen = []

        async def watch():
            while len(seen) < 2:
                seen.append([ledger.at_s > START_S for ledger in world.pool.ledgers.values()])
                await asyncio.sleep(0)

        await asyncio.gather(world.fleet.catch_up(START_S + 300), watch())
        assert seen == [[True, False, False], [True, True, False]]
        assert {ledger.at_s for ledger in world.pool.ledgers.values()} == {START_S + 300}


async def test_a_worker_that_really_hashes_stands_beside_the_miners(tmp_path):
    async with Served(tmp_path) as world:
        miner = await Miner.connect(world.v1)
        await miner.log_on()
        assert (await miner.submit(miner.hash()))["result"] is True
        await miner.close()
        world.clock.at_s += 60
        told = (await world.get("/accounts/workers/json/btc"))["btc"]["workers"]["hcp.rig"]
        assert (told["state"], told["valid_shares"], told["rejected_shares"]) == ("ok", 1, 0)
        assert told["hash_rate_5m"] == pytest.approx(EASY_DIFFICULTY * 2**32 / 60 / 1e9, abs=1e-3)
        assert (told["shares_5m"], told["shares_24h"]) == (EASY_DIFFICULTY, EASY_DIFFICULTY)
        profile = (await world.get("/accounts/profile/json/btc"))["btc"]
        assert (profile["ok_workers"], profile["off_workers"]) == (1, 8)
        assert profile["shares_60m"] == EASY_DIFFICULTY


async def test_the_world_tells_what_its_ports_have_seen(tmp_path):
    async with Served(tmp_path, requests_per_minute=1) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.v1)
        writer.write(b"no request\n")
        await reader.readline()
        for _ in range(3):
            await world.client.get("/stats/json/btc")
        seen = (await world.client.get("/world/pool", headers={"Pool-Auth-Token": ""})).json()
        assert seen == {
            "v1": {"connected": 1, "connections": 1, "malformed": 1}, "v2": {"connected": 0}, "statistics": {}, "jobs": 1,
            "limit_exceeded": 2,
        }  # fmt: skip
        writer.close()


async def test_jobs_and_pay_are_those_of_the_worlds_own_network(tmp_path):
    """In a replay the blocks are the recorded ones."""

    def recorded(at_s, count):
        return [Block(800_000 - n, at_s - 600.0 * n, 2.0**40, 12_500_000) for n in range(count)]

    async with Served(tmp_path, blocks=recorded) as world:
        miner = await Miner.connect(world.v1)
        await miner.log_on()
        await miner.close()
        bits = int(miner.work.bits, 16)
        assert (bits & 0x7FFFFF) << 8 * ((bits >> 24) - 3) == pytest.approx((0xFFFF << 208) >> 40, rel=1e-4)
        pool = (await world.get("/stats/json/btc"))["btc"]
        assert float(pool["fpps_rate"]) == pytest.approx((6.25 + 0.125) / 2**40)
        assert all(int(height) <= 800_000 for height in pool["blocks"])


async def test_other_accounts_work_here_where_the_pool_is_open(tmp_path):
    async with Served(tmp_path) as world:
        miner = await Miner.connect(world.v1)
        await miner.log_on("bc1qsomebody.rig")
        assert (await miner.submit(miner.hash(), "bc1qsomebody.rig"))["result"] is True
        await miner.close()
        assert world.worker("bc1qsomebody.rig").valid == 1
        assert len((await world.get("/accounts/workers/json/btc"))["btc"]["workers"]) == 8
        assert (await world.get("/stats/json/btc"))["btc"]["pool_active_workers"] == 9
    async with Served(tmp_path, is_open=False) as world:
        miner = await Miner.connect(world.v1)
        assert (await miner.ask("mining.authorize", "bc1qsomebody.rig", "x"))["error"][0] == 24
        await miner.log_on("hcp")
        await miner.close()


async def test_only_who_has_the_token_is_answered_and_none_too_often(tmp_path):
    async with Served(tmp_path, requests_per_minute=3) as world:
        stranger = await world.client.get("/stats/json/btc", headers={"Pool-Auth-Token": "no"})
        assert (stranger.status_code, stranger.json()["error"].split()[-1]) == (403, "account")
        older = await world.client.get(
            "/stats/json/btc", headers={"Pool-Auth-Token": "", "SlushPool-Auth-Token": TOKEN}
        )
        assert older.status_code == 200
        assert (older.headers["RateLimit-Limit"], older.headers["RateLimit-Remaining"]) == ("3", "2")
        replies = [await world.client.get("/stats/json/btc") for _ in range(3)]
        assert [one.status_code for one in replies] == [200, 200, 429]
        assert replies[2].headers["Retry-After"] == "60"
        world.clock.at_s += 60
        assert (await world.client.get("/stats/json/btc")).status_code == 200
        assert world.pool.api.limiter.refused == 1


@pytest.mark.parametrize(
    "header", ["Pool-Auth-Token", "X-Pool-Auth-Token", "SlushPool-Auth-Token", "X-SlushPool-Auth-Token"]
)
async def test_each_documented_header_carries_the_token(tmp_path, header):
    async with Served(tmp_path) as world:
        for token, status in ((TOKEN, 200), ("no", 403)):
            reply = await world.client.get("/stats/json/btc", headers={"Pool-Auth-Token": "", header: token})
            assert reply.status_code == status


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/accounts/workers/json/btc", {"page": "0"}),
        ("/accounts/workers/json/btc", {"page": "9" * 5000}),
        ("/accounts/workers/json/btc", {"page_size": "1001"}),
        ("/accounts/workers/json/btc", {"page_size": "٣"}),
        ("/accounts/workers_daily/json/btc", {}),
        ("/accounts/workers_daily/json/btc", {"date": "yesterday"}),
        ("/accounts/workers_daily/json/btc", {"date": "2030-01-01"}),
        ("/accounts/rewards/json/btc", {"from": "2020-01-01", "to": "2024-12-31"}),
    ],
)
async def test_wrong_questions_are_answered_with_what_is_wrong(tmp_path, path, query):
    async with Served(tmp_path) as world:
        reply = await world.client.get(path, params=query)
        assert reply.status_code == 400
        assert next(iter(query), "date") in reply.json()["error"] or "days" in reply.json()["error"]
        assert (await world.client.get("/nothing")).status_code == 404
        assert (await world.client.post(path)).status_code == 405


async def test_broken_requests_stop_nothing(tmp_path):
    async with Served(tmp_path) as world:
        port = int(world.pool.urls["pool-api"].rpartition(":")[2])
        for sent in (
            b"GARBAGE\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000,
            b"GET /stats/json/btc HTTP/1.1\r\nHo",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            writer.write_eof()
            async with asyncio.timeout(60):
                with contextlib.suppress(ConnectionError):
                    assert b"200" not in (await reader.read())[:20]
            writer.close()
        assert (await world.get("/stats/json/btc"))["btc"]["pool_active_workers"] == 8
