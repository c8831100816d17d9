"""The pool's Stratum V1 port as a miner sees it that really hashes and shares no code with it; and bad input."""

import asyncio
import contextlib
import json
import socket

import pytest

from simulators.pool.port import Patience
from simulators.pool.v1_messages import MOST_LINE_BYTES
from tests.support.pool import EASY_DIFFICULTY, PoolWorld
from tests.support.stratum_v1 import Miner

QUICK = Patience(stranger_s=0.3, message_s=0.3, idle_s=0.3)


@pytest.fixture
async def world(tmp_path):
    async with PoolWorld(tmp_path) as one:
        yield one


@contextlib.asynccontextmanager
async def miner_of(world, **options):
    miner = await Miner.connect(world.v1)
    try:
        await miner.log_on(**options)
        yield miner
    finally:
        await miner.close()


async def test_a_miner_that_hashes_is_credited_what_it_found(world):
    async with miner_of(world) as miner:
        assert miner.difficulty == EASY_DIFFICULTY
        assert miner.work.clean is True
        nonce = 0
        for _ in range(3):
            share = miner.hash(start=nonce)
            nonce = int(share[2], 16) + 1
            assert await miner.submit(share) == {"id": miner_id(miner), "result": True, "error": None}
    worker = world.worker()
    assert (worker.valid, worker.stale, worker.rejected) == (3, 0, 0)
    assert worker.difficulty_sum == pytest.approx(3 * EASY_DIFFICULTY)
    assert worker.hashes_per_s(60, worker.began_s + 60) == pytest.approx(3 * EASY_DIFFICULTY * 2**32 / 60)


def miner_id(miner):
    return next(miner.ids) - 1


async def test_a_share_counts_once_and_only_where_its_hash_is_low_enough(world):
    async with miner_of(world) as miner:
        share = miner.hash()
        assert (await miner.submit(share))["result"] is True
        assert (await miner.submit(share))["error"][0] == 22
        written_otherwise = (share[0], share[1].upper(), share[2].upper())
        assert (await miner.submit(written_otherwise))["error"][0] == 22
        assert (await miner.submit(miner.hash(below=False)))["error"][0] == 23
    assert (world.worker().valid, world.worker().rejected) == (1, 3)


async def test_what_is_true_of_one_connection_is_not_of_another(world):
    """A share is bound to its connection's extranonce: handed in by somebody else, its hash is another one."""
    async with miner_of(world) as first, miner_of(world, worker="hcp.other") as second:
        assert first.extranonce1 != second.extranonce1
        share = first.hash(difficulty=2e-5)
        assert (await second.submit(share, "hcp.other"))["error"][0] == 23
        assert (await first.submit(share))["result"] is True
        assert (await first.submit(share, "hcp.other"))["error"][0] == 24


async def test_a_block_makes_older_jobs_stale(world):
    async with miner_of(world) as miner:
        before = miner.work
        share = miner.hash()
        world.to(3 * 3600)
        after = await miner.next_work()
        assert after.clean is True
        assert after.previous != before.previous
        assert (await miner.submit(share, work=before))["error"][0] == 21
        assert (await miner.submit(miner.hash()))["result"] is True
        before.job = "ffff"
        assert (await miner.submit(share, work=before))["error"][0] == 21
    assert (world.worker().valid, world.worker().stale, world.worker().rejected) == (1, 1, 1)


async def test_a_new_job_without_a_block_leaves_the_last_one_valid(tmp_path):
    async with PoolWorld(tmp_path, job_every_s=1) as world, miner_of(world) as miner:
        before, share = miner.work, miner.hash()
        world.to(2)
        after = await miner.next_work()
        assert (after.clean, after.previous == before.previous) == (False, True)
        assert (await miner.submit(share, work=before))["result"] is True
        assert (await miner.submit(share, work=before))["error"][0] == 22


async def test_versions_are_rolled_within_the_mask_alone(world):
    async with miner_of(world, rolls=True) as miner:
        bits = "00002000"
        share = miner.hash(version_bits=bits)
        assert (await miner.submit(share, version_bits=bits))["result"] is True
        assert (await miner.submit(share, version_bits="00004000"))["error"][0] in (20, 23)
        assert (await miner.submit(share, version_bits="20000000"))["error"][0] == 20
    async with miner_of(world) as miner:
        assert (await miner.submit(miner.hash(), version_bits="00002000"))["error"][0] == 20


async def test_a_mask_that_changes_while_working_brings_a_job_that_has_it(world):
    async with miner_of(world) as miner:
        before = miner.work
        miner.mask = 0x1FFFE000
        said = await miner.ask("mining.configure", ["version-rolling"], {"version-rolling.mask": "1fffe000"})
        assert said["result"]["version-rolling"] is True
        work = await miner.next_work()
        assert (work.clean, work.job != before.job) == (False, True)
        rolled = miner.hash(version_bits="00002000")
        assert (await miner.submit(rolled, version_bits="00002000"))["result"] is True
        plain = miner.hash(before)
        assert (await miner.submit(plain, work=before))["result"] is True
        await miner.ask("mining.configure", ["version-rolling"], {"version-rolling.mask": "00002000"})
        wide = miner.hash(work, version_bits="00ffe000")
        assert (await miner.submit(wide, work=work, version_bits="00ffe000"))["result"] is True
        narrow = miner.work
        assert narrow.job != work.job
        miner.mask = 0x00002000
        assert (await miner.submit(miner.hash(), version_bits="00004000"))["error"][0] == 20
        await miner.ask("mining.configure", ["version-rolling"], {"version-rolling.mask": "00002000"})
        await miner.ask("mining.ping")
        assert miner.work is narrow, "the same mask again brings no job"
        world.to(3 * 3600)
        await miner.next_work()
        assert (await miner.submit(wide, work=narrow, version_bits="00002000"))["error"][0] == 21
    assert (world.worker().valid, world.worker().stale) == (3, 1)


@pytest.mark.parametrize("password", ["d=0", "x,d=1e999", "d=-5", "d=..", "d=1e30", "x"])
async def test_a_password_that_asks_for_no_difficulty_is_a_password(world, password):
    async with miner_of(world, password=password) as miner:
        assert miner.difficulty == EASY_DIFFICULTY
        assert (await miner.submit(miner.hash()))["result"] is True


async def test_a_configure_that_is_refused_changes_nothing(world):
    miner = await Miner.connect(world.v1)
    options = {"minimum-difficulty.value": 0.5, "version-rolling.mask": "zz"}
    said = await miner.ask("mining.configure", ["minimum-difficulty", "version-rolling"], options)
    assert said["error"][0] == 20
    await miner.log_on()
    assert miner.difficulty == EASY_DIFFICULTY
    await miner.close()


async def test_whoever_is_refused_gets_no_work(world):
    miner = await Miner.connect(world.v1)
    await miner.ask("mining.subscribe", "test/1")
    assert (await miner.ask("mining.authorize", "hcp.one.3", "x,d=0.01"))["error"][0] == 24
    await miner.ask("mining.ping")
    assert (miner.work, miner.difficulty) == (None, 1.0)
    said = await miner.ask("mining.submit", "hcp.one.3", "1", "0" * 16, "0" * 8, "0" * 8)
    assert said["error"][0] == 24
    await miner.close()


async def test_configure_answers_every_extension(world):
    miner = await Miner.connect(world.v1)
    asked = ["version-rolling", "minimum-difficulty", "subscribe-extranonce", "fast-food"]
    options = {"version-rolling.mask": "00ffe000", "version-rolling.min-bit-count": 2, "minimum-difficulty.value": 0.01}
    said = await miner.ask("mining.configure", asked, options)
    assert said["result"] == {
        "version-rolling": True, "version-rolling.mask": "00ffe000", "minimum-difficulty": True,
        "subscribe-extranonce": True, "fast-food": False,
    }  # fmt: skip
    await miner.log_on()
    assert miner.difficulty == 0.01
    few = {"version-rolling.mask": "00002000", "version-rolling.min-bit-count": 2}
    assert (await miner.ask("mining.configure", ["version-rolling"], few))["result"] == {"version-rolling": False}
    await miner.close()


async def test_a_miner_may_ask_for_its_difficulty(world):
    async with miner_of(world, password="x,d=0.002") as miner:
        assert miner.difficulty == 0.002
        assert (await miner.ask("mining.suggest_difficulty", 0.0005))["result"] is True
        await miner.next_work()
        assert miner.difficulty == 0.0005
        target = f"{(0xFFFF << 208) * 1000:064x}"
        assert (await miner.ask("mining.suggest_target", target))["result"] is True
        await miner.next_work()
        assert miner.difficulty == pytest.approx(0.001)
        for wrong in (0, -1, "much", None, True, 1e30):
            assert (await miner.ask("mining.suggest_difficulty", wrong))["error"][0] == 20
        assert (await miner.ask("mining.ping"))["result"] == "pong"
        assert (await miner.ask("mining.extranonce.subscribe"))["result"] is True


async def test_difficulty_follows_the_rate_of_shares_and_each_job_keeps_its_own(tmp_path):
    async with PoolWorld(tmp_path, share_every_s=10) as world, miner_of(world) as miner:
        first, nonce = miner.work, 0
        shares = []
        for _ in range(9):
            shares.append(miner.hash(start=nonce))
            nonce = int(shares[-1][2], 16) + 1
        world.clock.at_s += 1  # eight shares a second, wanted is one in ten
        for share in shares[:8]:
            assert (await miner.submit(share))["result"] is True
        while miner.work is first:
            await miner.read()
        assert miner.difficulty == pytest.approx(8 * EASY_DIFFICULTY)
        assert (await miner.submit(shares[8], work=first))["result"] is True
        assert world.worker().difficulty_sum == pytest.approx(9 * EASY_DIFFICULTY)
        world.to(200)
        while miner.difficulty > 2 * EASY_DIFFICULTY:
            await miner.read()


async def test_requests_out_of_order_are_refused_by_their_codes(world):
    miner = await Miner.connect(world.v1)
    assert (await miner.ask("mining.submit", "hcp.rig", "1", "00000000", "00000000", "00000000"))["error"][0] == 25
    for stranger in ("hcp.rig!", "", 5, "hcp.one.3"):
        assert (await miner.ask("mining.authorize", stranger, "x"))["error"][0] == 24
    await miner.log_on()
    assert (await miner.ask("mining.submit", "hcp.other", "1", "00000000", "00000000", "00000000"))["error"][0] == 24
    assert (await miner.ask("mining.nonsense"))["error"][0] == 20
    for params in ([], [1], ["hcp.rig", None, None, None, None], ["hcp.rig", "1", "zz" * 4, "00000000", "00000000"]):
        assert (await miner.ask("mining.submit", *params))["error"][0] in (20, 24)
    job = miner.work.job
    for extranonce2, ntime, nonce in (
        ("00", "0" * 8, "0" * 8),
        ("0" * 8, "0" * 8, "0" * 8),
        ("0" * 8, "f" * 8, "0" * 8),
    ):
        assert (await miner.ask("mining.submit", "hcp.rig", job, extranonce2, ntime, nonce))["error"][0] == 20
    await miner.close()


BROKEN = [
    b"not json\n", b"[]\n", b"{}\n", b'{"method": 5}\n', b'{"id": {}, "method": "mining.ping"}\n', b"[" * 4000 + b"\n",
    b'{"id":1,"method":"mining.ping","params":{"a":1}}\n', b"\xff\xfe\x00\n",
    b'{"id":1,"method":"mining.ping","params":[' + b",".join([b"1"] * 17) + b"]}\n",
]  # fmt: skip


async def test_broken_lines_are_answered_until_there_are_too_many(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.v1)
    for line in BROKEN[:7]:
        writer.write(line)
        said = json.loads(await reader.readline())
        assert (said["id"], said["result"], said["error"][0]) == (None, None, 20)
    writer.write(BROKEN[7])
    assert json.loads(await reader.readline())["error"][0] == 20
    assert await reader.read() == b""
    writer.close()
    assert world.pool.v1.port.counts["malformed"] == 8
    assert world.pool.v1.port.counts["expelled"] == 1
    await still_answers(world)


async def still_answers(world):
    async with miner_of(world) as miner:
        assert (await miner.submit(miner.hash()))["result"] is True


async def test_too_much_is_answered_and_closed(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.v1)
    writer.write(b"x" * (MOST_LINE_BYTES + 1) + b"\n")
    assert b"more than" in await reader.read()
    writer.close()
    assert world.pool.v1.port.counts["oversized"] == 1
    await still_answers(world)


@pytest.mark.parametrize(("sent", "kind"), [(b"", "silent"), (b'{"id": 1, "met', "slow")])
async def test_who_says_nothing_whole_is_closed_in_time(tmp_path, sent, kind):
    async with PoolWorld(tmp_path, patience=QUICK) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.v1)
        writer.write(sent)
        async with asyncio.timeout(60):
            await reader.read()
        writer.close()
        assert world.pool.v1.port.counts[kind] == 1


async def test_half_closed_peers_get_their_answers(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.v1)
    writer.write(b'{"id":1,"method":"mining.subscribe","params":[]}\n{"id":2,"method":"mining.ping","params":[]}\n')
    writer.write_eof()
    said = [json.loads(line) for line in (await reader.read()).splitlines()]
    assert [one["id"] for one in said] == [1, 2]
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", world.v1)
    writer.write(b'{"id":1,"meth')
    writer.write_eof()
    assert b"whole" in await reader.read()
    writer.close()
    assert world.pool.v1.port.counts["torn"] == 1


async def test_connections_are_limited_and_come_free_again(tmp_path):
    async with PoolWorld(tmp_path, max_connections=2) as world:
        async with miner_of(world), miner_of(world, worker="hcp.b"):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.v1)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            assert world.pool.v1.port.counts["refused"] == 1
        while world.pool.v1.port.connections:
            await asyncio.sleep(0)
        await still_answers(world)


async def test_a_peer_that_takes_nothing_is_dropped_and_the_others_are_served(tmp_path):
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with PoolWorld(tmp_path, job_every_s=0.05) as world:
        deaf.connect(("127.0.0.1", world.v1))
        deaf.sendall(b'{"id":1,"method":"mining.subscribe","params":[]}\n')
        deaf.sendall(b'{"id":2,"method":"mining.authorize","params":["hcp.deaf","x"]}\n')
        for step in range(20_000):
            world.to(0.1 * step)
            await asyncio.sleep(0)
            if world.pool.v1.port.counts["unread"]:
                break
        assert world.pool.v1.port.counts["unread"] == 1
        await still_answers(world)
    deaf.close()


async def test_a_peer_that_asks_without_end_is_answered_more_slowly_and_nobody_else_is(world):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.v1)
    began_s = asyncio.get_running_loop().time()
    writer.write(b'{"id":1,"method":"mining.ping","params":[]}\n' * 450)
    for _ in range(450):
        assert b"pong" in await reader.readline()
        if asyncio.get_running_loop().time() - began_s > 0.1:
            await still_answers(world)
            break
    else:
        raise AssertionError("four hundred at once are the most, then a hundred a second")
    writer.close()
