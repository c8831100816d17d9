"""Bills from the queue's own rows to dollars: the copy, devices, telemetry, prices, corrections, checks, the command."""

import asyncio
import json
import uuid
import warnings
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from hcp_pipelines.collector.copier import Copier
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.orchestration.billing.days import bill_days
from hcp_pipelines.orchestration.billing.publish import CHANGES, DAYS, LINES, WORK_ENERGY, publish
from hcp_pipelines.orchestration.billing.terms import add, present
from hcp_pipelines.orchestration.billing.watch import days_to_bill, energy_agrees, gpu_seconds_agree, is_whole
from hcp_pipelines.orchestration.history.publish import Run
from hcp_pipelines.orchestration.history.reading import reading
from hcp_pipelines.orchestration.mart_sources import ensure_sources
from hcp_pipelines.orchestration.resources import Platform, fixed
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import store
from tests.support.cli import hcp
from tests.support.collected import EMPTY
from tests.support.queued import api, customer, fleet, running, scheduled, scheduler, submit

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets.billing import (
        billed_days,
        billing_is_whole,
        energy_is_that_of_the_groups,
        gpu_seconds_are_those_of_the_queue,
    )

__all__ = ["api", "customer", "fleet", "hcp", "scheduler"]

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
FIRST = datetime(2025, 3, 9, tzinfo=UTC)  # the spring change is at 08Z: its operating day has 23 hours
EVENING = FIRST + 23 * HOUR
PRICES, MINUTES, GROUPS = "core.power__settled_prices", "core.telemetry_1min", "core.telemetry_group_1min"
OWN = (LINES, WORK_ENERGY, DAYS, CHANGES)
BUSY_KW, IDLE_KW = 0.7, 0.2
FIRST_MONTH = ("--from", "2025-03-01", "--to", "2025-03-31")
DUE_LATER = FIRST + 2 * DAY + 2 * MINUTE


@pytest.fixture
def billed_lake(settings, fleet):
    """A lake with nothing of work in it, and prices of three days."""
    clear(settings)
    ensure_sources(settings)
    prices(settings, 40.0)
    yield settings
    clear(settings)


def clear(settings):
    with lake.attach(settings) as connection:
        schemas = "select schema_name || '.' || table_name from duckdb_tables() where database_name = 'lake'"
        there = {row[0] for row in connection.execute(schemas).fetchall()}
        connection.execute("begin")
        for table in there.intersection(OWN):
            connection.execute(f"drop table lake.{table}")
        for table in there.intersection((*EMPTY, PRICES, MINUTES, GROUPS)):
            connection.execute(f"delete from lake.{table}")
        if lake.BATCHES in there:  # or the copy would go on where another test's ended
            connection.execute(f"delete from lake.{lake.BATCHES} where \"table\" like 'raw.%'")
        connection.execute("commit")


def prices(settings, usd):
    at = [FIRST + n * timedelta(minutes=15) for n in range(3 * 96)]
    points = ("HB_HOUSTON",)
    frame = pl.DataFrame(
        [(start, point, usd, "history", start.date()) for point in points for start in at],
        schema={"start_at": pl.Datetime("us", "UTC"), "settlement_point": pl.String, "price_usd_per_mwh": pl.Float64,
                "origin": pl.String, "operating_day": pl.Date}, orient="row",
    )  # fmt: skip
    lake.write(settings, PRICES, frame, batch_id=uuid.uuid4().hex, mode="replace")


def copied(settings):
    """What the collector makes of it."""
    copier = Copier(settings, ManualClock(FIRST))
    try:
        while copier.round() == 0.0:
            pass
    finally:
        copier.close()


def told(settings, group, slots, since, until, busy):
    """Minutes of devices that draw BUSY_KW where they are busy (slot, instant), and of their group."""
    at = [since + n * MINUTE for n in range(int((until - since) / MINUTE))]
    rows = [
        {"minute_at": minute, "facility_id": "hou-1", "group_id": group, "generation": 1, "slot": slot, "samples": 60,
         "power_kw_avg": BUSY_KW if busy(slot, minute) else IDLE_KW, "power_kw_count": 60}
        for minute in at for slot in slots
    ]  # fmt: skip
    devices = pl.DataFrame(rows)
    group_rows = devices.group_by("minute_at", "facility_id", "group_id", "generation").agg(
        devices=pl.len(),
        samples=pl.col("samples").sum(),
        power_kw=pl.col("power_kw_avg").sum(),
        devices_with_power=pl.len(),
    )
    with lake.attach(settings) as connection:
        for table, frame in ((MINUTES, devices), (GROUPS, group_rows)):
            connection.register("told", frame.to_arrow())
            names = ", ".join(frame.columns)
            connection.execute(f"insert into lake.{table} ({names}) select {names} from told")
            connection.unregister("told")


def read(settings, query):
    with lake.attach(settings, read_only=True) as connection:
        return connection.execute(query).pl()


def bill(settings, now, days=2, run="r"):
    window = FIRST, FIRST + days * DAY
    with connect(settings, Role.CONTROL) as connection:
        found = bill_days(connection, settings, window, now)
    return publish(settings, found, window, Run(run, now))


def charging(settings):
    return settings.model_copy(update={"bill_energy": "charged"})


def due(settings, now):
    with connect(settings, Role.CONTROL) as connection:
        return days_to_bill(connection, settings, now)


def gpus(database, count):
    """The group of H100 and its first slots as resources."""
    group, first = database.execute(
        "select group_id, first_slot from device_groups where facility_id = 'hou-1' and specifications ->> 'gpu_type' = 'H100'"
    ).fetchone()
    ids = [f"hou-1/{first + n:06d}" for n in range(count)]
    database.execute(
        """insert into resources (id, facility_id, group_id, slot, generation, type, subtype)
           select id, 'hou-1', %s, %s + n - 1, 1, 'GPU', 'H100' from unnest(%s::text[]) with ordinality as r (id, n)
           on conflict do nothing""",
        (group, first, ids),
    )
    return group, first, ids


async def ran(api, scheduler, fleet, customer):
    """Work of four GPUs from 23:00 to 00:40 the day after, with a pause of ten minutes at 23:30."""
    group, first, ids = gpus(fleet, 4)
    await submit(api, customer, now=EVENING - MINUTE)
    [claimed] = await scheduled(scheduler, EVENING, facility_id="hou-1", usd_per_gpu_hour=2.0)
    await store.allocate(scheduler, claimed.workload_id, claimed.epoch, ids)
    await store.start(scheduler, claimed.workload_id, claimed.epoch, now=EVENING)
    await store.pause(scheduler, claimed.workload_id, claimed.epoch, now=EVENING + 30 * MINUTE, reason="a pause")
    await store.resume(scheduler, claimed.workload_id, claimed.epoch, now=EVENING + 40 * MINUTE)
    await store.complete(scheduler, claimed.workload_id, claimed.epoch, now=EVENING + 100 * MINUTE)
    return group, first, claimed.workload_id


async def test_work_over_midnight_with_a_pause_is_billed_by_interval_and_agrees(
    billed_lake, fleet, api, scheduler, customer, hcp
):
    assert due(billed_lake, FIRST + 2 * DAY) == []  # nothing ever ran
    group, first, workload_id = await ran(api, scheduler, fleet, customer)
    copied(billed_lake)
    spans = ((EVENING, EVENING + 30 * MINUTE), (EVENING + 40 * MINUTE, EVENING + 100 * MINUTE))

    def is_busy(slot, minute):
        return slot < first + 4 and any(since <= minute < until for since, until in spans)

    told(billed_lake, group, range(first, first + 6), EVENING, EVENING + 2 * HOUR, is_busy)
    assert due(billed_lake, FIRST + 2 * DAY) == [FIRST, FIRST + DAY]
    done = bill(billed_lake, FIRST + 2 * DAY)
    lines = read(billed_lake, f"from lake.{LINES} order by start_at")
    assert len(done.changes) == 0
    assert lines["gpu_s"].sum() == pytest.approx(90 * 60 * 4)
    assert lines.filter(pl.col("start_at") < FIRST + DAY)["gpu_s"].sum() == pytest.approx(50 * 60 * 4)
    assert set(lines["operating_day"]) == {date(2025, 3, 9)}  # 23:00Z to 00:40Z are 18:00 to 19:40 there
    assert lines["gpu_usd"].sum() == Decimal("12.000000")
    assert set(lines["energy_basis"]) == {"metered"}
    assert lines["device_mwh"].sum() == pytest.approx(4 * 1.5 * BUSY_KW / 1000)
    [(pue,)] = fleet.execute("select pue from facilities").fetchall()
    assert lines["energy_mwh"].sum() == pytest.approx(4 * 1.5 * BUSY_KW / 1000 * pue)
    assert lines.schema["usd"] == pl.Decimal(18, 6)
    assert lines["energy_usd"].sum() > 0
    assert (lines["usd"] == lines["gpu_usd"]).all()  # by default the rate has energy in it

    # energy is charged beside the rate from now on: what was billed stays, until that is put right from an earlier day on
    charged = charging(billed_lake)
    assert len(bill(charged, FIRST + 2 * DAY, run="charged").changes) == 0
    assert due(charged, FIRST + 2 * DAY) == []
    with connect(billed_lake, Role.OPERATOR) as connection:
        add(connection, present(connection, charged), FIRST, FIRST + 2 * DAY + MINUTE, "a test")
    assert due(charged, FIRST + 2 * DAY + MINUTE) == [FIRST, FIRST + DAY]
    assert len(bill(charged, FIRST + 2 * DAY + MINUTE, run="put right").changes) == 2
    lines = read(billed_lake, f"from lake.{LINES} order by start_at")
    assert (lines["usd"] == lines["gpu_usd"] + lines["energy_usd"]).all()

    # it agrees with the queue and with the groups' meters; where it doesn't it is told
    window = FIRST, FIRST + 2 * DAY
    with reading(billed_lake) as reader, connect(billed_lake, Role.CONTROL) as connection:
        assert gpu_seconds_agree(reader, connection, window).told["workloads"] == 1
        assert gpu_seconds_agree(reader, connection, window).passed
        assert energy_agrees(reader, window)["hou-1"].passed
        assert energy_agrees(reader, window)["hou-1"].told["told_mwh"] == pytest.approx(
            (6 * IDLE_KW * 2 + 4 * 1.5 * (BUSY_KW - IDLE_KW)) / 1000
        )
        assert is_whole(reader, window).passed
    assert due(charged, FIRST + 2 * DAY) == []

    # again is the same: nothing changed, though the facility's file did
    adders = """update facilities set document = document || jsonb_build_object(
                    'contract', coalesce(document -> 'contract', '{}') || '{"adders_usd_per_mwh": 77}')"""
    fleet.execute(adders)
    again = bill(charged, FIRST + 2 * DAY, run="again")
    assert len(again.changes) == 0
    assert read(billed_lake, f"from lake.{LINES} order by start_at").equals(lines)

    # a price is corrected: the days are due, and what changed is kept
    prices(billed_lake, 50.0)
    assert due(charged, FIRST + 2 * DAY) == [FIRST, FIRST + DAY]
    bill(charged, FIRST + 2 * DAY, run="corrected")
    changes = read(billed_lake, f"from lake.{CHANGES} where run_id = 'corrected' order by day_at")
    after = read(billed_lake, f"select sum(usd) as usd from lake.{LINES}").item()
    assert len(changes) == 2
    assert (changes["is_usd"] - changes["was_usd"]).sum() == after - lines["usd"].sum() > 0
    shows(billed_lake, hcp, customer, workload_id, after)
    await asyncio.to_thread(states, billed_lake, hcp, customer)

    # energy that somebody else counted otherwise is alerted, and so are GPU-seconds that are missing
    with lake.attach(billed_lake) as connection:
        connection.execute(f"update lake.{GROUPS} set power_kw = power_kw * 1.1")
    await asyncio.to_thread(dagster_run, billed_lake, fleet)  # which has event loops of its own


def shows(settings, hcp, customer, workload_id, usd):
    """`hcp bill`, by customer's mail and by id, as a table, JSON and CSV."""
    where = ("--from", "2025-03-01", "--to", "2025-03-31", "--state-dir", settings.state_dir)
    found = json.loads(hcp("bill", "one@example.com", *where, "--json").out)
    [row] = found["rows"]
    assert (row["operating_day"], row["facility_id"], row["gpu_hours"]) == ("2025-03-09", "hou-1", pytest.approx(6.0))
    assert Decimal(str(row["usd"])) == pytest.approx(usd)
    assert found["customer_id"] == str(customer)
    by_work = hcp("bill", str(customer), "--by", "workload", *where, "--csv").out.splitlines()
    assert by_work[0].startswith("workload_id,facility_id,type,")
    assert by_work[1].startswith(f"{workload_id},hou-1,model_training,")
    assert (
        "Nothing is billed" in hcp("bill", str(customer), "--from", "2024-01-01", "--to", "2024-01-02", *where[4:]).out
    )
    assert hcp("bill", "nobody@example.com", *where).code == 2
    assert hcp("bill", str(customer), "--from", "2025-03-02", "--to", "2025-03-01", *where[4:]).code == 2


def states(settings, hcp, customer):
    """`hcp bill statement`, `rate` and `terms`: cents that add up to the bill, a rate of one's own from a day on."""
    where = ("--state-dir", settings.state_dir)
    asked = ("bill", "statement", "one@example.com", "--month", "2025-03", *where)
    found = json.loads(hcp(*asked, "--json").out)
    billed = Decimal(
        str(json.loads(hcp("bill", "one@example.com", *FIRST_MONTH, *where, "--json").out)["rows"][0]["usd"])
    )
    assert [item["kind"] for item in found["items"]] == ["gpu", "energy"]
    assert sum(Decimal(item["amount_usd"]) for item in found["items"]) == Decimal(found["total_usd"])
    assert Decimal(found["total_usd"]) == billed.quantize(Decimal("0.01"))
    assert (found["from"], found["to"], found["lines_without_price"]) == ("2025-03-01", "2025-03-31", 0)
    assert hcp(*asked, "--csv").out.splitlines()[-1].startswith("total,2025-03,")
    page = hcp(*asked, "--html").out
    assert "<td>Total</td>" in page
    assert "http" not in page
    assert f"${found['total_usd']}" in hcp(*asked).out
    assert "Nothing is billed" in hcp("bill", "statement", str(customer), "--month", "2024-01", *where).out
    told = hcp("bill", "terms", *where)
    assert (told.code, "included" in told.out, "charged" in told.out) == (0, True, True)
    assert hcp("bill", "terms", "--from", "2025-03-09", *where).code == 2
    done = hcp("bill", "terms", "--from", "2025-03-09", "--reason", "the adders were wrong", *where)
    assert (done.code, done.out.count("2025-03-09")) == (0, 2)
    assert "has no rate of its own" in hcp("bill", "rate", "one@example.com", *where).out
    for wrong in ("much", "-1", "nan", "20000"):
        assert hcp("bill", "rate", "one@example.com", "H100", *where, "--", wrong).code == 2
    agreed = hcp("bill", "rate", "one@example.com", "H100", "1.25", "--from", "2025-03-10", *where)
    assert "1.250000" in agreed.out
    assert len(bill(charging(settings), DUE_LATER, run="own").changes) > 0
    own = read(settings, f"from lake.{LINES} where start_at >= timestamptz '2025-03-10 00:00:00+00'")
    assert (set(own["rate_basis"]), own["gpu_usd"].sum()) == ({"own"}, Decimal("3.333333"))
    before = read(settings, f"from lake.{LINES} where start_at < timestamptz '2025-03-10 00:00:00+00'")
    assert set(before["rate_basis"]) == {"agreed"}


def dagster_run(settings, fleet):
    resources = {"platform": fixed(Platform(state_dir=str(settings.state_dir)))}
    checks = [billed_days, billing_is_whole, energy_is_that_of_the_groups, gpu_seconds_are_those_of_the_queue]
    result = dg.materialize(checks, resources=resources, partition_key=f"{FIRST:%Y-%m-%d}")
    assert result.success
    judged = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert judged["billing_is_whole"].passed
    assert judged["gpu_seconds_are_those_of_the_queue"].passed
    assert not judged["energy_is_that_of_the_groups"].passed
    rows = fleet.execute("select subject, detail from audit_log where action = 'alert.billing_off'").fetchall()
    assert [subject for subject, _ in rows] == ["hou-1"]
    with connect(settings, Role.CONTROL) as connection, reading(settings) as reader:
        with lake.attach(settings) as writer:
            writer.execute(f"delete from lake.{LINES} where start_at >= timestamptz '2025-03-10 00:00:00+00'")
        off = gpu_seconds_agree(reader, connection, (FIRST + DAY, FIRST + 2 * DAY))
    assert not off.passed
    assert "of 21600 GPU-seconds" in off.why


def wanted(database, work):
    """The scheduler's row for work whose devices are not allocated: the first four of their group."""
    database.execute(
        """insert into desired_state (facility_id, group_id, state, slots, generation, reason, actor, valid_until, workload_id,
               lease_epoch) values ('hou-1', 'h100', 6, %s, 1, 'workload', 'scheduler', now() + interval '1 hour', %s, %s)""",
        (b"".join(n.to_bytes(4, "little") for n in range(4)), *work),
    )


def test_a_rate_is_agreed_on_for_types_that_there_are_and_can_be_ended_for_any(settings, database, customer, hcp):
    asked, where = ("bill", "rate", str(customer)), ("--state-dir", settings.state_dir)
    for typed, usd in (("H200", "1.25"), ("h100", "1.25"), ("H200", "none")):
        refused = hcp(*asked, typed, usd, *where)
        assert (refused.code, f"no facility has {typed}: there are H100" in refused.err) == (2, True)
    assert "has no rate of its own" in hcp(*asked, *where).out
    database.execute(
        """insert into customer_rates (customer_id, gpu_type, usd_per_gpu_hour, valid_from, noted_at, actor)
           values (%s, 'H200', 1, now(), now(), 'test')""",
        (customer,),
    )
    assert hcp(*asked, "H200", "1.25", *where).code == 2
    assert "the market's" in hcp(*asked, "H200", "none", *where).out


async def test_what_our_side_broke_is_not_billed_and_earlier_days_are_credited(
    billed_lake, fleet, api, scheduler, customer
):
    await submit(api, customer, now=EVENING - MINUTE)
    work = await running(scheduler, EVENING, facility_id="hou-1", usd_per_gpu_hour=2.0)
    await store.checkpoint(scheduler, *work, location="s3://c/1", progress_s=2400, now=EVENING + 45 * MINUTE)
    wanted(fleet, work)
    copied(billed_lake)
    bill(billed_lake, FIRST + DAY + 10 * MINUTE, days=1)  # it runs, and nothing is wrong yet
    assert read(billed_lake, f"select sum(gpu_s) from lake.{LINES} where treatment = 'billed'").item() == 3600 * 4

    # its node is lost after midnight: what the checkpoint doesn't hold is lost, on both days
    await store.fail(scheduler, *work, now=FIRST + DAY + 20 * MINUTE, reason="node lost")
    copied(billed_lake)
    assert due(billed_lake, FIRST + 2 * DAY) == [FIRST, FIRST + DAY]
    done = bill(billed_lake, FIRST + 2 * DAY)
    lines = read(
        billed_lake, f"select treatment, sum(gpu_s) as gpu_s, sum(usd) as usd from lake.{LINES} group by 1 order by 1"
    )
    assert lines["gpu_s"].to_list() == pytest.approx([2400 * 4, (4800 - 2400) * 4])
    assert lines["usd"].to_list()[1] == 0
    assert len(done.changes) == 1
    assert done.changes["is_usd"][0] < done.changes["was_usd"][0]
    where = read(billed_lake, f"select distinct facility_id, group_id, energy_basis from lake.{LINES}")
    assert where.rows() == [("hou-1", "h100", "model")]  # as the scheduler wanted it; nobody told anything
    with reading(billed_lake) as reader:
        assert energy_agrees(reader, (FIRST, FIRST + 2 * DAY)) == {}

    # it is tried until nothing is left to try: nothing of it is billed at all
    for attempt in range(4):
        at = FIRST + DAY + (1 + attempt) * HOUR
        [again] = await scheduled(scheduler, at, facility_id="hou-1", usd_per_gpu_hour=2.0)
        await store.start(scheduler, again.workload_id, again.epoch, now=at)
        state = await store.fail(scheduler, again.workload_id, again.epoch, now=at + MINUTE, reason="node lost")
        if state == "failed":
            break
    assert state == "failed"
    copied(billed_lake)
    assert due(billed_lake, FIRST + 2 * DAY) == [FIRST, FIRST + DAY]
    bill(billed_lake, FIRST + 2 * DAY)
    assert read(billed_lake, f"select distinct treatment, usd from lake.{LINES}").rows() == [("failed", Decimal(0))]
    with reading(billed_lake) as reader, connect(billed_lake, Role.CONTROL) as connection:
        assert gpu_seconds_agree(reader, connection, (FIRST, FIRST + 2 * DAY)).passed
