"""The pool's Stratum V2 port as a miner sees it that shares no code with it, curve and handshake included; and bad input."""

import asyncio
import contextlib
import os
import struct

import pytest

from simulators.pool.port import Patience
from simulators.pool.v2_messages import MOST_PAYLOAD_BYTES
from tests.support import stratum_v2 as v2
from tests.support.pool import EASY_DIFFICULTY, START_S, PoolWorld
from tests.support.stratum_v1 import DIFF1, dsha

QUICK = Patience(stranger_s=0.3, message_s=0.3, idle_s=0.3)


@pytest.fixture
async def world(tmp_path):
    async with PoolWorld(tmp_path) as one:
        yield one


@contextlib.asynccontextmanager
async def miner_of(world, **options):
    miner = await v2.Miner.connect(world.v2)
    try:
        assert (await miner.set_up(**options))[0] == v2.SETUP_OK
        yield miner
    finally:
        await miner.close()


async def test_the_certificate_is_the_authoritys(world):
    authority = v2.authority_of(world.pool.urls["pool-v2"])
    miner = await v2.Miner.connect(world.v2, authority, START_S)
    await miner.close()
    with pytest.raises(AssertionError):
        await v2.Miner.connect(world.v2, authority, START_S + 40 * 86_400)


async def test_the_authority_comes_from_its_file(tmp_path):
    key = tmp_path / "authority"
    key.write_text("11" * 32 + "\n")
    async with PoolWorld(tmp_path, authority_key_file=key) as world:
        authority = v2.authority_of(world.pool.urls["pool-v2"])
        assert authority.hex() == "4f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa"  # of 11…11
        await (await v2.Miner.connect(world.v2, authority, START_S)).close()


async def test_a_miner_that_hashes_is_credited_what_it_found(world):
    async with miner_of(world) as miner:
        channel = await miner.open(hashes_per_s=1e9)
        assert channel.target == pytest.approx(DIFF1 / (1e9 * 5 / 2**32), rel=1e-6)
        channel = await miner.open()
        assert channel.target == pytest.approx(DIFF1 / 1e-8, rel=1e-9)
        share = miner.hash(channel)
        assert await miner.submit(channel, share) == (v2.SHARE_OK, 1, 0)
        assert await miner.submit(channel, share) == (v2.SHARE_ERROR, "duplicate-share")
        rolled = miner.hash(channel, version_bits=0x2000)
        assert (await miner.submit(channel, rolled))[0] == v2.SHARE_OK
        version = rolled[3] ^ 0x8000_0000
        assert await miner.submit(channel, (*rolled[:3], version)) == (v2.SHARE_ERROR, "invalid-version-bits")
        early = (share[0], share[1], share[2] - 1, share[3])
        assert await miner.submit(channel, early) == (v2.SHARE_ERROR, "time-out-of-range")
        assert await miner.submit(channel, (999, *share[1:])) == (v2.SHARE_ERROR, "invalid-job-id")
        assert await miner.submit(99, share) == (v2.SHARE_ERROR, "invalid-channel-id")
    worker = world.worker()
    assert (worker.valid, worker.stale, worker.rejected) == (2, 0, 4)
    assert worker.difficulty_sum == pytest.approx(2e-8)


async def test_a_claim_sets_the_target_and_moves_no_credit(world):
    async with miner_of(world) as miner:
        channel = await miner.open(hashes_per_s=2.0e3)
        low = miner.hash(channel, below=False)
        assert await miner.submit(channel, low) == (v2.SHARE_ERROR, "difficulty-too-low")
        share = miner.hash(channel)
        claim = struct.pack("<If", channel.number, 5.0e14) + v2.MAX_TARGET.to_bytes(32, "little")
        miner.send(v2.UPDATE, claim)
        await miner.until(v2.TARGET)
        assert channel.target == pytest.approx(DIFF1 / (5.0e14 * 5 / 2**32), rel=1e-6)
        assert world.worker().claimed_hashes_per_s == pytest.approx(5.0e14)
        assert (await miner.submit(channel, share))[0] == v2.SHARE_OK  # the older job keeps its own target
    worker = world.worker()
    assert worker.difficulty_sum == pytest.approx(2.0e3 * 5 / 2**32)
    assert worker.hashes_per_s(300, worker.began_s + 300) < 1e3


async def test_a_block_makes_older_jobs_stale(world):
    async with miner_of(world) as miner:
        channel = await miner.open()
        before, share = channel.previous, miner.hash(channel)
        world.to(3 * 3600)
        await miner.until(v2.PREV_HASH)
        assert channel.previous != before
        assert await miner.submit(channel, share) == (v2.SHARE_ERROR, "stale-share")
        assert (await miner.submit(channel, miner.hash(channel)))[0] == v2.SHARE_OK
    assert (world.worker().valid, world.worker().stale) == (1, 1)


async def test_channels_of_one_connection_hash_different_things(world):
    async with miner_of(world) as miner:
        first, second = await miner.open(), await miner.open(user="hcp.other")
        assert first.extranonce != second.extranonce
        share = miner.hash(first, target=int(DIFF1 / 1e-5))
        assert await miner.submit(second, (second.job, *share[1:])) == (v2.SHARE_ERROR, "difficulty-too-low")
        miner.send(v2.CLOSE, struct.pack("<I", first.number) + v2.text("done"))
        assert await miner.submit(first.number, share) == (v2.SHARE_ERROR, "invalid-channel-id")


async def test_a_proxy_makes_its_own_coinbase(world):
    async with miner_of(world, flags=0) as miner:
        wanted = (
            struct.pack("<I", 5) + v2.text("hcp.proxy") + struct.pack("<f", 0.0) + v2.MAX_TARGET.to_bytes(32, "little")
        )
        miner.send(v2.OPEN_EXTENDED, wanted + struct.pack("<H", 40))
        _, refused = await miner.until(v2.OPEN_ERROR)
        assert (refused.u32(), refused.short()) == (5, b"min-extranonce-size-too-large")
        miner.send(v2.OPEN_EXTENDED, wanted + struct.pack("<H", 4))
        _, opened = await miner.until(v2.OPEN_EXTENDED_OK)
        assert opened.u32() == 5
        number, target, size, prefix = opened.u32(), opened.u256(), opened.u16(), opened.short()
        miner.channels[number] = v2.Channel(number, target, prefix)
        _, job = await miner.until(v2.EXTENDED_JOB)
        assert job.u32() == number
        job_id, time, version, rolls = job.u32(), job.option_u32(), job.u32(), job.take(1)
        assert (time, rolls) == (None, b"\x01")
        path = [job.take(32) for _ in range(job.take(1)[0])]
        head, tail = (job.take(job.u16()) for _ in range(2))
        await miner.until(v2.PREV_HASH)
        channel, own = miner.channels[number], bytes(range(size))
        root = dsha(head + prefix + own + tail)
        for branch in path:
            root = dsha(root + branch)
        channel.jobs[job_id] = (version, root)
        share = miner.hash(channel)
        miner.send(v2.SUBMIT_EXTENDED, struct.pack("<6I", number, 1, *share) + bytes([size]) + own)
        kind, _ = await miner.until(v2.SHARE_OK, v2.SHARE_ERROR)
        assert kind == v2.SHARE_OK
        assert await miner.submit(channel, share) == (v2.SHARE_ERROR, "invalid-share-type")
    assert world.worker("hcp.proxy").valid == 1


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"protocol": 1}, "unsupported-protocol"),
        ({"versions": (3, 9)}, "protocol-version-mismatch"),
        ({"flags": 0b11}, "unsupported-feature-flags"),
        ({"flags": 0b1000}, "unsupported-feature-flags"),
    ],
)
async def test_what_cannot_be_had_is_refused_and_closed(world, asked, code):
    miner = await v2.Miner.connect(world.v2)
    kind, fields = await miner.set_up(**asked)
    assert kind == v2.SETUP_ERROR
    assert fields.u32() == asked.get("flags", 0) & 0b1010
    assert fields.short().decode() == code
    assert await miner.reader.read() == b""
    await miner.close()


async def test_channels_are_for_workers_that_may_work_here(world):
    async with miner_of(world) as miner:
        for user in ("hcp.one.2", ""):
            assert await miner.open(user=user) == "unknown-user"
        assert await miner.open(hashes_per_s=float("nan")) == "invalid-nominal-hash-rate"
        assert await miner.open(max_target=1) == "max-target-out-of-range"
        assert not isinstance(await miner.open(user="hcp"), str)
        miner.send(v2.UPDATE, struct.pack("<If", 77, 0.0) + bytes(32))
        _, fields = await miner.until(v2.UPDATE_ERROR)
        assert (fields.u32(), fields.short()) == (77, b"invalid-channel-id")


async def still_answers(world):
    async with miner_of(world) as miner:
        channel = await miner.open()
        assert (await miner.submit(channel, miner.hash(channel)))[0] == v2.SHARE_OK


async def test_unknown_messages_are_passed_over_and_broken_ones_counted(world):
    async with miner_of(world) as miner:
        miner.send(0x77, b"what is this")
        miner.send(v2.SUBMIT, b"", extension=0x8005)
        channel = await miner.open()
        for _ in range(7):
            miner.send(v2.SUBMIT, b"short")
        assert (await miner.submit(channel, miner.hash(channel)))[0] == v2.SHARE_OK
        miner.send(v2.OPEN, b"\xff" * 200)
        with pytest.raises(asyncio.IncompleteReadError):
            await miner.until(v2.OPEN_OK)
    assert world.pool.v2.port.counts["malformed"] == 8
    assert world.pool.v2.port.counts["expelled"] == 1
    await still_answers(world)


@pytest.mark.parametrize(
    ("kind", "break_it"),
    [
        ("foreign", lambda miner: miner.writer.write(os.urandom(22))),
        ("foreign", lambda miner: miner.writer.write(miner.frame(v2.SETUP, b"x" * 40)[:-1] + b"\0")),
        ("oversized", lambda miner: miner.send(v2.SETUP, b"x", length=MOST_PAYLOAD_BYTES + 1)),
        ("refused_setup", lambda miner: miner.send(v2.CLOSE, struct.pack("<I", 1) + v2.text("x"))),
        ("torn", lambda miner: (miner.writer.write(miner.frame(v2.SETUP, b"x" * 40)[:-9]), miner.writer.write_eof())),
    ],
)
async def test_who_breaks_the_line_is_closed_and_counted(world, kind, break_it):
    miner = await v2.Miner.connect(world.v2)
    break_it(miner)
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            await miner.reader.read()
    await miner.close()
    assert world.pool.v2.port.counts[kind] == 1
    await still_answers(world)


@pytest.mark.parametrize(("sent", "kind"), [(b"", "silent"), (b"x" * 63, "slow")])
async def test_half_a_handshake_is_closed_in_time(tmp_path, sent, kind):
    async with PoolWorld(tmp_path, patience=QUICK) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.v2)
        writer.write(sent)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()
        assert world.pool.v2.port.counts[kind] == 1


async def test_difficulty_follows_the_rate_of_shares(tmp_path):
    async with PoolWorld(tmp_path, share_every_s=10) as world, miner_of(world) as miner:
        channel = await miner.open(max_target=int(DIFF1 / EASY_DIFFICULTY))
        first, nonce = channel.target, 0
        world.clock.at_s += 1
        for _ in range(8):
            share = miner.hash(channel, start=nonce, target=first)
            nonce = share[1] + 1
            assert (await miner.submit(channel, share))[0] == v2.SHARE_OK
        await miner.until(v2.TARGET)
        assert channel.target == pytest.approx(first / 8, rel=1e-9)
        await miner.until(v2.JOB)
        assert (await miner.submit(channel, miner.hash(channel)))[0] == v2.SHARE_OK
