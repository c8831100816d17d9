"""Settled days as their Dagster assets: lines and switches in the lake, corrections kept, history filled, regret alerted."""

import csv
import io
import json
import uuid
import warnings
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.inventory import load_inventories
from hcp_pipelines.orchestration.history.joined import rental_rates, settled_prices
from hcp_pipelines.orchestration.history.publish import Run
from hcp_pipelines.orchestration.resources import Platform, fixed
from hcp_pipelines.orchestration.settlement.days import settle_days
from hcp_pipelines.orchestration.settlement.history import fill
from hcp_pipelines.orchestration.settlement.publish import CHANGES, DAYS, LINES, REGRETS, SWITCH_VALUE, publish
from hcp_pipelines.orchestration.settlement.regret import REGRET, judge
from hcp_pipelines.orchestration.settlement.watch import days_to_settle
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support.cli import hcp
from tests.support.collected import EMPTY, whole
from tests.support.fleet import MARKET
from tests.support.replayed import START, journal, switch, ticks

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets.settlement import regret_has_not_grown, settled_days, settlement_is_whole

__all__ = ["hcp"]

DAY = timedelta(days=1)
LMPS = [20.0] * 120 + [900.0] * 12 + [20.0] * (288 - 132)
PRICES = ("core.power__settled_prices", "core.gpu__rental_rates", "raw.published_days")


def write(settings, table, frame):
    lake.write(settings, table, frame, batch_id=uuid.uuid4().hex, mode="replace")


def read(settings, query, *parameters):
    with lake.attach(settings, read_only=True) as connection:
        return connection.execute(query, list(parameters)).pl()


def slept(inventory, *minutes, names=("off", "on")):
    """Journal rows of a facility's first group that was put to sleep, and woken."""
    group = inventory.groups[0]
    slots = range(group.first_slot, group.first_slot + group.devices)
    told = [switch(name, at, slots, states) for name, at, states in zip(names, minutes, ((3, 0), (0, 3)), strict=True)]
    of = {"facility_id": inventory.facility_id, "generation": inventory.generation, "group_id": group.group_id}
    literals = {name: pl.lit(value) for name, value in of.items()}
    rows = journal(*told).with_row_index("id").with_columns(usd_per_hour=pl.lit(2.0), **literals)
    return whole("raw.switch_journal", rows)


@pytest.fixture
def recorded(settings):
    """A day with a dear hour in which the first miners' group slept; its allocations stand in history."""
    with connect(settings, Role.ADMIN) as connection:
        apply(connection, demo_facilities(1, 60)[0], "test")
        [inventory] = load_inventories(connection)
        group = inventory.groups[0]
        connection.execute(
            """insert into allocation_history ("timestamp", facility_id, resource_id, resource_type, recommended_workload,
                   actual_workload, devices, expected_profit)
               select %s + m * interval '1 minute', 'hou-1', 'hou-1/' || %s, 'ASIC', w, w, %s, 1.5
               from (values (600, 'curtailed'), (660, 'bitcoin_mining')) as told (m, w)""",
            (START, group.group_id, group.devices),
        )
    write(settings, "raw.switch_journal", slept(inventory, 600, 660))
    market = ticks(LMPS, market=()), ticks([], START + timedelta(minutes=5), MARKET)
    power = pl.concat(market).with_columns(quality=pl.lit("good")).with_row_index("id")
    write(settings, "raw.price_ticks", whole("raw.price_ticks", power))
    yield settings
    with lake.attach(settings) as connection:
        for table in (LINES, SWITCH_VALUE, REGRETS, DAYS, CHANGES, *PRICES):
            connection.execute(f"drop table if exists lake.{table}")
    for table in ("raw.switch_journal", "raw.price_ticks"):
        write(settings, table, EMPTY[table])


def prices(settings):
    """The day's settled prices and rates as their assets make them; a hashprice comes from ticks, since no block is fetched."""
    window = START, START + DAY
    write(settings, "core.power__settled_prices", settled_prices(settings, window))
    write(settings, "core.gpu__rental_rates", rental_rates(settings, window))


def materialized(settings):
    prices(settings)
    resources = {"platform": fixed(Platform(state_dir=str(settings.state_dir)))}
    result = dg.materialize([settled_days, settlement_is_whole], resources=resources, partition_key=f"{START:%Y-%m-%d}")
    assert result.success
    return result


def settle_again(settings, known_at):
    prices(settings)
    with connect(settings, Role.CONTROL) as connection:
        settled = settle_days(connection, settings, (START, START + DAY), known_at)
        fill(connection, settled.days)
    return publish(settings, settled, (START, START + DAY), Run("again", known_at))


def test_a_day_is_settled_corrected_and_told(recorded, hcp):
    assert "settlement_job settles a day" in hcp("settle", "--state-dir", recorded.state_dir).out
    assert days_to_settle(recorded, START + 2 * DAY) == [START, START + DAY]
    [check] = materialized(recorded).get_asset_check_evaluations()
    assert check.passed, check.description
    lines = read(recorded, "from lake.core.hcp__settlement")
    assert lines.schema["usd"] == pl.Decimal(18, 6)
    assert set(lines["kind"]) == {"energy", "mining", "pool_fee", "inference", "wakes"}
    assert set(lines["operating_day"].cast(pl.String)) == {"2024-12-31", "2025-01-01"}
    net = lines["usd"].sum()

    switches = {row["command_id"]: row for row in read(recorded, "from lake.core.hcp__switch_value").to_dicts()}
    days = read(recorded, "from lake.core.hcp__settled_days").row(0, named=True)
    assert sum(row["realised_usd"] for row in switches.values()) == pytest.approx(
        net - days["stayed_usd"], abs=Decimal("0.005")
    )
    assert switches["off"]["expected_usd"] == 2
    assert switches["off"]["until_next_usd"] > 0
    assert (days["net_usd"], days["unknown"], days["metered_fraction"]) == (net, 0, 0.0)

    [regret] = read(recorded, "from lake.core.hcp__regret").to_dicts()
    assert regret["oracle_usd"] >= regret["realised_usd"]
    assert regret["hours"] == 24
    with connect(recorded, Role.CONTROL) as connection:
        profits = [
            r[0] for r in connection.execute("select actual_profit from allocation_history order by id").fetchall()
        ]
    assert profits[0] < 0 < profits[1]  # asleep it draws a little
    assert days_to_settle(recorded, START + 2 * DAY) == [START + DAY]

    # a price is corrected: the day is due again, replaced, and the difference kept
    known = days["settled_at"] + DAY
    correct(recorded, known)
    assert days_to_settle(recorded, START + 2 * DAY)[0] == START
    settle_again(recorded, known)
    after = read(recorded, "select sum(usd) as usd from lake.core.hcp__settlement").item()
    changes = read(recorded, "from lake.core.hcp__settlement_changes")
    assert set(changes["kind"]) == {"energy"}
    assert (changes["is_usd"] - changes["was_usd"]).sum() == after - net != 0
    shows(recorded, hcp, after)


def test_a_run_that_ends_half_way_leaves_its_day_to_be_settled(recorded, monkeypatch):
    prices(recorded)
    window, whole_write = (START, START + DAY), lake.write
    with connect(recorded, Role.CONTROL) as connection:
        settled = settle_days(connection, recorded, window, START + DAY)

    def dies(connection, table, *rest, **named):
        if table == last:
            raise StorageError("killed here")
        return whole_write(connection, table, *rest, **named)

    monkeypatch.setattr(lake, "write", dies)
    for last in (SWITCH_VALUE, REGRETS, LINES):
        with pytest.raises(StorageError, match="killed here"):
            publish(recorded, settled, window, Run(last, START + DAY))
        assert days_to_settle(recorded, START + DAY) == [START]


def test_a_facility_that_cannot_be_settled_keeps_what_it_had_and_costs_the_others_nothing(recorded, hcp):
    first = materialized(recorded)
    before = read(recorded, "from lake.core.hcp__settlement order by all")
    with connect(recorded, Role.ADMIN) as connection:
        apply(connection, demo_facilities(2, 60)[1], "test")
        other = next(each for each in load_inventories(connection) if each.facility_id == "nor-1")
    lake.write(recorded, "raw.switch_journal", slept(other, 600, 660), batch_id=uuid.uuid4().hex)
    lost = replace(other, facility_id="hou-1", generation=99)  # whose devices nobody knows
    lake.write(recorded, "raw.switch_journal", slept(lost, 700, 710), batch_id=uuid.uuid4().hex)
    again = materialized(recorded)
    after = read(recorded, "from lake.core.hcp__settlement order by all")
    assert after.filter(facility_id="hou-1").equals(before)
    assert not after.filter(facility_id="nor-1").is_empty()
    [was], [check] = (result.get_asset_check_evaluations() for result in (first, again))
    assert was.passed
    assert not check.passed
    assert "could not be settled: hou-1 (from 2025-01-01)" in check.description
    with connect(recorded, Role.CONTROL) as connection:
        [(subject, detail)] = connection.execute(
            "select subject, detail from audit_log where action = 'alert.settlement_failed'"
        ).fetchall()
    assert (subject, detail["days"]) == ("hou-1", "2025-01-01/2025-01-02")
    assert days_to_settle(recorded, START + 2 * DAY) == [START + DAY]  # not again and again


def test_hashes_that_miners_told_are_settled_where_nearly_all_of_them_did(recorded):
    with connect(recorded, Role.ADMIN) as connection:
        [inventory] = load_inventories(connection)
    group = inventory.groups[0]
    of = {"facility_id": "hou-1", "generation": inventory.generation, "group_id": group.group_id}
    silent = {20: 1, 40: 0}  # one miner is silent at 00:20, and at 00:40 all of them are
    told = [
        {**of, "minute_at": START + n * timedelta(minutes=1), "devices_with_hashrate": group.devices - silent.get(n, 0),
         "hashrate_th_per_s": 100.0 * (group.devices - silent.get(n, 0))}
        for n in range(60) if n != 40
    ]  # fmt: skip
    groups = {**of, "type": "ASIC", "devices": group.devices}
    made = {"core.telemetry_group_1min": pl.DataFrame(told), "raw.device_groups": pl.DataFrame([groups])}
    for name, frame in made.items():
        write(recorded, name, frame.with_columns(pl.col(pl.Datetime).cast(pl.Datetime("us", "UTC"))))
    try:
        materialized(recorded)
    finally:
        with lake.attach(recorded) as connection:
            for name in made:
                connection.execute(f"drop table lake.{name}")
    lines = read(
        recorded, "from lake.core.hcp__settlement where kind in ('mining', 'hash_deviation') order by start_at"
    )
    first = lines.filter(pl.col("start_at") < START + timedelta(hours=1), group_id=group.group_id)
    by_kind = {kind: first.filter(kind=kind) for kind in ("mining", "hash_deviation")}
    at = [START + n * timedelta(minutes=15) for n in range(4)]
    whole = [at[0], at[3]] if group.devices < 20 else [at[0], at[1], at[3]]
    assert by_kind["hash_deviation"]["start_at"].to_list() == whole
    said = by_kind["mining"]["quantity"][0]
    assert by_kind["hash_deviation"]["quantity"][0] == pytest.approx(group.devices * 0.25 * 100 / 24_000 - said)


def test_a_day_in_which_devices_were_added_is_settled_in_parts_and_told_as_one(recorded):
    with connect(recorded, Role.ADMIN) as connection:
        apply(connection, demo_facilities(1, 90)[0], "test")
        [inventory] = load_inventories(connection)
    lake.write(
        recorded, "raw.switch_journal", slept(inventory, 905, 940, names=("off-2", "on-2")), batch_id=uuid.uuid4().hex
    )
    materialized(recorded)
    lines = read(recorded, "from lake.core.hcp__settlement")
    assert lines.filter(kind="energy")["start_at"].n_unique() == 96
    drawn = lines.filter(kind="energy").group_by("start_at").agg(pl.col("quantity").sum()).sort("start_at")["quantity"]
    assert drawn[0] * 1.4 < drawn[95], "sixty devices until 15:00, ninety from then on"
    [day] = read(recorded, "from lake.core.hcp__settled_days").to_dicts()
    values = read(recorded, "from lake.core.hcp__switch_value")
    assert sorted(values["command_id"]) == ["off", "off-2", "on", "on-2"]
    assert (day["until_at"], day["net_usd"]) == (START + DAY, lines["usd"].sum())
    assert values["realised_usd"].sum() == pytest.approx(day["net_usd"] - day["stayed_usd"], abs=Decimal("0.005"))
    [regret] = read(recorded, "from lake.core.hcp__regret").to_dicts()
    assert (regret["day_at"], regret["hours"]) == (START, 24.0)
    assert regret["regret_usd"] >= 0


def shows(settings, hcp, net):
    """What `hcp settle` says of a settled day adds up to it, by operating day."""
    of = ("settle", "--state-dir", settings.state_dir, "--from", "2024-12-31", "--to", "2025-01-02")
    days = json.loads(hcp(*of, "--facility", "hou-1", "--json").out)["days"]
    assert [day["operating_day"] for day in days] == ["2025-01-01", "2024-12-31"]
    assert sum(Decimal(day["net_usd"]) for day in days) == net
    assert "2025-01-01" in hcp(*of).out
    assert "Nothing of o'hare is settled" in hcp(*of, "--facility", "o'hare").out
    assert hcp(*of, "--from", "2025-01-03").code == 2
    compares_with_the_market(settings, hcp, [*of, "--facility", "hou-1"], days)


def compares_with_the_market(settings, hcp, of, days):
    """Our own statement agrees with itself; one that is a cent more off than may be, and lacks an interval, is told."""
    told = hcp(*of, "--market")
    rows = list(csv.DictReader(io.StringIO(told.out)))
    energy = -sum(Decimal(row["amount_usd"]) for row in rows if row["charge_type"] == "RTEIAMT")
    assert energy == sum(Decimal(day["usd"]["energy"]) for day in days)
    path = settings.state_dir / "statement.csv"
    path.write_text(told.out)
    against = ("settle", "--state-dir", settings.state_dir, "--against", path)
    assert (hcp(*against).code, "They agree." in hcp(*against).out) == (0, True)
    first = next(row for row in rows if row["charge_type"] == "RTEIAMT")
    off = told.out.replace(f",{first['amount_usd']}\n", f",{Decimal(first['amount_usd']) + Decimal('0.02')}\n", 1)
    path.write_text("".join(off.splitlines(keepends=True)[:-1]))
    found = hcp(*against, "--json")
    assert (found.code, json.loads(found.out)["differing"]) == (1, 2)
    assert hcp(*against, "--market").code == 2
    path.write_text("operating_day,amount_usd\n2025-01-01,1\n")
    assert (hcp(*against).code, "no column resource" in hcp(*against).err) == (2, True)


def correct(settings, known_at):
    """One interval's settled price is another now, as a feed's revision and as a fetch would say so."""
    rows = pl.DataFrame(
        {"id": [10_001], "stream": ["power.rt_spp"], "series": ["HB_HOUSTON"], "timestamp": [START + timedelta(hours=12)],
         "revision": [1], "value": [400.0], "quality": ["good"]},
    )  # fmt: skip
    lake.write(settings, "raw.price_ticks", whole("raw.price_ticks", rows), batch_id=uuid.uuid4().hex)
    told = pl.DataFrame(
        {"table": ["raw.ercot__rt_spp"], "day_at": [START], "rows": [96], "rejected": [0], "revised": [1], "withdrawn": [0],
         "run_id": ["r"], "published_at": [known_at]}
    )  # fmt: skip
    lake.write(settings, "raw.published_days", told, batch_id=uuid.uuid4().hex)


def test_regret_that_has_doubled_is_told_and_alerted(recorded):
    platform = Platform(state_dir=str(recorded.state_dir))
    today = platform.clock().now().replace(hour=0, minute=0, second=0, microsecond=0)
    rows = [
        {
            "day_at": today - n * DAY,
            "facility_id": "hou-1",
            "hours": 24.0,
            "regret_usd_per_mw_day": 90.0 if n == 1 else 10.0,
        }
        for n in range(1, 6)
    ]
    write(recorded, REGRETS, pl.DataFrame([{**dict.fromkeys(REGRET), **row} for row in rows], schema=REGRET))
    found = regret_has_not_grown(platform=platform)
    assert not found.passed
    assert "hou-1: regret of" in found.description
    with connect(recorded, Role.CONTROL) as connection:
        alert = connection.execute(
            "select subject, detail from audit_log where action = 'alert.regret_grew'"
        ).fetchall()
    assert [(subject, detail["limit_usd_per_mw_day"]) for subject, detail in alert] == [("hou-1", 20.0)]


def test_regret_is_judged_against_its_own_two_weeks():
    def days(*regrets):
        rows = [
            {"day_at": START + n * DAY, "facility_id": "hou-1", "hours": 24.0, "regret_usd_per_mw_day": regret}
            for n, regret in enumerate(regrets)
        ]
        return pl.DataFrame(rows, schema={name: REGRET[name] for name in rows[0]})

    def found(*regrets):
        return judge(days(*regrets), START + len(regrets) * DAY)["hou-1"]

    assert found(10.0, 900.0).why.startswith("1 days before 2025-01-02 are too few")
    assert found(10.0, 12.0, 11.0, 21.0).passed
    grown = found(10.0, 12.0, 11.0, 23.0)
    assert not grown.passed
    assert grown.told["limit_usd_per_mw_day"] == 22.0
    assert found(0.1, 0.1, 0.1, 4.0).passed  # doubled many times, and nothing
