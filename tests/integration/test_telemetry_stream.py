"""Telemetry from a gateway's devices to the lake: each sample once, whoever is killed, and what can't be taken is refused."""

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import pytest

from hcp_pipelines.collector.telemetry.rows import METERS, TABLE
from hcp_pipelines.collector.telemetry.store import TelemetryStore
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.telemetry import examine_telemetry, read_telemetry
from hcp_pipelines.wire import telemetry_v1_pb2 as pb
from hcp_pipelines.wire.telemetry import METHOD, SERVICE, decode_sample
from tests.support.edge import FIRST_GPU, GPUS, MINERS, SLOTS, Gateway, World, until
from tests.support.telemetry import clear, collecting, sample

FACILITY = """
insert into facilities (id, name, location, capacity_mw, pue, settlement_point, document_version, document_digest, document)
values (%s, 'Houston', '{}', 75, 1.1, 'HB_HOUSTON', 1, 'd', '{}')"""
FEEDER = "insert into feeders (facility_id, feeder_id, limit_mw) values (%s, 'f1', 10)"
GENERATION = (
    "insert into inventory_generations (facility_id, generation, devices, digest, reason) values (%s, %s, %s, 'd', 'r')"
)
GROUP = """
insert into device_groups (facility_id, generation, group_id, feeder_id, type, model, firmware, cooling_class, first_slot,
    devices, ladder, specifications) values (%s, %s, %s, 'f1', 'ASIC', 'm', 'stock', 'air', %s, %s, '[]', '{}')"""
ENDPOINT = "insert into gateway_endpoints (facility_id, address, gateway) values (%s, %s, 'edge')"


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def lake_settings(settings):
    clear(settings)
    yield settings
    clear(settings)


def register(database, address, facility="one", generation=1):
    database.execute(FACILITY, (facility,))
    database.execute(FEEDER, (facility,))
    database.execute(GENERATION, (facility, generation, MINERS + GPUS))
    for group, first, devices in (("asic", 0, MINERS), ("gpu", FIRST_GPU, GPUS)):
        database.execute(GROUP, (facility, generation, group, first, devices))
    database.execute(ENDPOINT, (facility, address))


def query(settings, sql):
    with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
        return connection.execute(sql).fetchall()


class Running:
    """A world and a gateway that samples it ten times a second."""

    def __init__(self, folder, **telemetry):
        self.folder, self.telemetry = folder, {"every_s": 0.1} | telemetry

    async def __aenter__(self):
        self.world = World(self.folder, sites=("one",), speed=1.0)
        await self.world.start()
        self.gateway = Gateway(self.folder, self.world, names=("one",))
        self.gateway.config = self.gateway.config.model_copy(
            update={"telemetry": self.gateway.config.telemetry.model_copy(update=self.telemetry)}
        )
        await self.gateway.start()
        return self

    async def __aexit__(self, *_):
        await self.gateway.stop()
        await self.world.kill()

    async def read(self, after_seq):
        sampler = self.gateway.samplers["one"]
        await until(lambda: self.spool is not None and self.spool.read(after_seq, 1), "a sample is kept")
        return await sampler.in_thread(sampler.read, after_seq, 10**9)

    @property
    def spool(self):
        return self.gateway.samplers["one"]._spool


async def test_each_device_is_in_the_lake_once_a_sample_and_the_spool_is_let_go_of(folder, lake_settings, database):
    async with Running(folder) as running:
        register(database, running.gateway.address)
        async with collecting(lake_settings) as telemetry:
            await until(lambda: telemetry.rates.seen(0, 0)["rows"] > 5 * (MINERS + GPUS), "samples are stored", 120)
            await until(lambda: read_telemetry(lake_settings).get("rows", 0) > 0, "the collector says so")
            await until(lambda: running.spool._acknowledged > 0, "the gateway is told")
        acknowledged = running.spool._acknowledged
    told = read_telemetry(lake_settings)
    assert told["rows"] > 0
    assert told["lag_s"] < 60
    well, found = examine_telemetry(lake_settings)
    assert well
    assert re.search(r"[\d,]+ rows/s, \d+ s behind; a device-day takes telemetry [\d.]+ kB", found)
    rows = query(
        lake_settings,
        f"select seq, count(*), count(distinct slot), max(slot) from lake.{TABLE} group by seq order by seq",
    )
    assert [row[1:] for row in rows] == [(MINERS + GPUS, MINERS + GPUS, SLOTS - 1)] * len(rows)
    seqs = [row[0] for row in rows]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert acknowledged in seqs
    one = query(
        lake_settings,
        f"select group_id, state, flags, count(*), min(power_kw) > 0, count(hashrate_th_per_s) from lake.{TABLE} "
        f"where seq = {seqs[-1]} group by all order by 1",
    )
    assert [row[0] for row in one] == ["asic", "gpu"]
    assert [row[3:] for row in one] == [(MINERS, True, MINERS), (GPUS, True, 0)]
    meter = f"select count(*), count(distinct seq), bool_and(seq >= {seqs[0]}), bool_or(is_metered) from lake.{METERS}"
    count, distinct, is_known, is_metered = query(lake_settings, meter)[0]
    assert count == distinct > 0
    assert is_known
    assert is_metered
    [(drawn, energy)] = query(
        lake_settings, f"select min(power_kw), min(energy_mwh) from lake.{METERS} where is_metered"
    )
    assert drawn > 0
    assert energy >= 0


async def test_what_a_killed_collector_has_not_acknowledged_comes_again_and_is_stored_once(
    folder, lake_settings, database
):
    async with Running(folder) as running:
        register(database, running.gateway.address)
        store = TelemetryStore(lake_settings, SystemClock())  # stores, and is killed before anybody is told
        kept = [decode_sample(payload) for _, payload in await running.read(0)]
        assert store.write(kept).samples == kept
        assert store.write(kept).samples == []
        store.close()
        async with collecting(lake_settings) as telemetry:
            await until(lambda: telemetry.rates.seen(0, 0)["rows"] > 0, "the rest is stored", 120)
    rows = query(lake_settings, f"select seq, count(*) from lake.{TABLE} group by seq order by seq")
    assert [count for _, count in rows] == [MINERS + GPUS] * len(rows)
    assert [seq for seq, _ in rows] == list(range(rows[0][0], rows[0][0] + len(rows)))


async def test_with_a_full_disk_the_oldest_samples_are_given_up_counted_and_told(folder, lake_settings, database):
    async with Running(folder, free_mb=1e9, spool_mb=0.02) as running:  # no disk has so much; short files
        register(database, running.gateway.address)
        await until(lambda: running.spool is not None and running.spool.shed > 20, "samples are given up")
        assert len(await running.read(0)) < 20, "and not heaped up"
        async with collecting(lake_settings) as telemetry:
            await until(lambda: telemetry.rates.seen(0, 0)["rows"] > 0, "the newest are stored", 120)
            await until(lambda: telemetry.context.health.get("telemetry shed"), "the collector says so")
    said = telemetry.context.health["telemetry shed"]
    assert re.match(r"gateways gave up \d+ samples for want of room", said)
    assert read_telemetry(lake_settings)["shed_samples"] > 20
    seqs = [row[0] for row in query(lake_settings, f"select distinct seq from lake.{TABLE} order by seq")]
    assert seqs[0] > 20


def test_of_two_writers_one_fails_and_nothing_is_doubled(lake_settings):
    first, second = (TelemetryStore(lake_settings, SystemClock()) for _ in range(2))
    first.write([sample(1), sample(2)])
    with pytest.raises(StorageError, match="another collector"):
        second.write([sample(1), sample(2), sample(3)])
    first.close()
    second.close()
    again = TelemetryStore(lake_settings, SystemClock())
    assert again.write([sample(2), sample(3)]).samples[0].seq == 3
    again.close()
    assert query(lake_settings, f"select seq, count(*) from lake.{TABLE} group by seq order by seq") == [
        (1, 6),
        (2, 6),
        (3, 6),
    ]


def test_a_writer_that_comes_back_when_batches_are_forgotten_doubles_nothing(lake_settings):
    first, second = (TelemetryStore(lake_settings, SystemClock()) for _ in range(2))
    for seq in (1, 2):
        first.write([sample(seq)])
    with lake.attach(lake_settings) as connection:  # as the lake's upkeep does after ten minutes
        connection.execute(f'delete from lake.{lake.BATCHES} where "table" = ? and batch_id = ?', [TABLE, "1"])
    with pytest.raises(StorageError, match=r"batch 2 .* came after 0: another collector"):
        second.write([sample(1)])
    first.close()
    second.close()


async def test_a_generation_that_nobody_knows_waits_at_the_gateway(folder, lake_settings, database):
    async with Running(folder) as running:
        register(database, running.gateway.address, generation=2)
        async with collecting(lake_settings) as telemetry:
            await until(
                lambda: (
                    telemetry.followed
                    and "generation 1 of one is not in the inventory" in telemetry.followed["one"].stream.reason
                ),
                "it is refused",
                120,
            )
            database.execute("update inventory_generations set is_current = false")
            database.execute(GENERATION, ("one", 1, MINERS + GPUS))
            database.execute("update device_groups set generation = 1")
            await until(lambda: telemetry.rates.seen(0, 0)["rows"] > 0, "it is taken", 120)
        assert running.spool.shed == 0


async def opened(address, *messages):
    """What a gateway answers to some messages: its first sample, or (code, details)."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}", pb.CollectorMessage.SerializeToString, None)()
        try:
            for message in messages:
                await call.write(message)
            return decode_sample(await asyncio.wait_for(call.read(), 60))
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details()


async def test_the_gateway_says_why_it_streams_nothing_and_bounds_what_is_under_way(folder):
    async with Running(folder) as running:
        address = running.gateway.address
        ack = pb.CollectorMessage(ack=pb.Ack(seq=3))
        assert await opened(address, ack) == ("INVALID_ARGUMENT", "a telemetry stream begins with `open`")
        other = pb.CollectorMessage(open=pb.Open(facility_id="two"))
        assert await opened(address, other) == ("NOT_FOUND", "facility 'two' is not behind this gateway: one")
        beyond = pb.CollectorMessage(open=pb.Open(facility_id="one", after_seq=2**63))
        assert (await opened(address, beyond))[0] == "OUT_OF_RANGE"
        assert (await opened(address, pb.CollectorMessage(open=pb.Open(facility_id="one")))).devices == MINERS + GPUS
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.stream_stream(f"/{SERVICE}/{METHOD}", pb.CollectorMessage.SerializeToString, None)()
            await call.write(pb.CollectorMessage(open=pb.Open(facility_id="one", window_bytes=1)))
            first = decode_sample(await call.read())
            with pytest.raises(TimeoutError):  # one is under way, and nobody has said that it is stored
                async with asyncio.timeout(0.5):
                    await asyncio.shield(second := asyncio.ensure_future(call.read()))
            await call.write(pb.CollectorMessage(ack=pb.Ack(seq=first.seq)))
            assert decode_sample(await second).seq == first.seq + 1


def test_a_writer_killed_at_any_moment_loses_and_doubles_nothing(lake_settings):
    for pause_s in (0.0, 0.013, 0.031):
        argv = [sys.executable, "-m", "tests.support.telemetry_writer", str(lake_settings.state_dir)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as writer:
            for _ in range(4):
                told = int(writer.stdout.readline())
            time.sleep(pause_s)  # into another part of a write
            writer.kill()
    store = TelemetryStore(lake_settings, SystemClock())  # what was under way has ended now
    store.close()
    assert store.stored["one"] >= told
    rows = query(lake_settings, f"select seq, count(*) from lake.{TABLE} group by seq order by seq")
    assert rows == [(seq, 6) for seq in range(1, store.stored["one"] + 1)]
