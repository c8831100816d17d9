"""A real month's settlement is, to the cent, what plain SQL makes of the same month: written apart from it, from the same rules.

Prices, hashprice, prices of capacity and demand are real and recorded; which device was in which state when is made up, seeded.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.domain.modes import DeviceState, ResourceType
from hcp_pipelines.optimizer.backtest.replay.moves import Walk
from hcp_pipelines.optimizer.settlement.day import HASHED, METERED, Terms, settle
from hcp_pipelines.optimizer.settlement.inputs import Facility, Market, Told, booked, day_of
from hcp_pipelines.optimizer.settlement.obligations import OBLIGATION
from hcp_pipelines.optimizer.settlement.spells import spells
from tests.support.replayed import journal, switch
from tests.support.settled import FIRST_SLOTS, FLEET, INVENTORY

DATA = Path(__file__).parents[3] / "shared" / "data"
POINT, PEAK_USD_PER_KW_YEAR, HEDGE_USD, RESPONSE_USD = "HB_HUBAVG", 65.0, 31.5, 240.0
CENT = 0.005

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded series: {DATA} is not there")


def month_of(year, month):
    """A UTC month: operating days begin five or six hours into it."""
    start = datetime(year, month, 1, tzinfo=UTC)
    return start, (start + timedelta(days=32)).replace(day=1)


def made_up_states(start, end, seed):
    """Switches of parts of groups, and apart from the journal a row a device and time that it was in a state."""
    rng, told, states, since, history = np.random.default_rng(seed), [], {}, {}, []
    for group in INVENTORY.groups:
        for slot in range(group.first_slot, group.first_slot + group.devices):
            states[slot], since[slot] = int(group.ladder[-1].state), start
    span_s = (end - start).total_seconds()
    for number, at_s in enumerate(sorted(rng.uniform(-3600, span_s, 240).round(3).tolist())):
        group = INVENTORY.groups[int(rng.integers(len(INVENTORY.groups)))]
        size = int(rng.integers(1, group.devices + 1))
        first = group.first_slot + int(rng.integers(0, group.devices - size + 1))
        new = int(rng.choice([int(step.state) for step in group.ladder]))
        at = start + timedelta(seconds=at_s)
        for slot in range(first, first + size):
            if states[slot] != new:
                told.append((number, at, slot, states[slot], new))
                if at > start:
                    history.append((slot, states[slot], since[slot], at, new))
                    since[slot] = at
                states[slot] = new
    history += [(slot, state, since[slot], end, None) for slot, state in states.items()]
    rows = pl.DataFrame(told, schema=["number", "at", "slot", "old", "new"], orient="row")
    told = [
        switch(f"{number}/{old}", (at - start).total_seconds() / 60, part["slot"].to_list(), (old, new), start=start)
        for (number, old, at, new), part in rows.group_by(["number", "old", "at", "new"], maintain_order=True)
    ]
    schema = {"slot": pl.Int64, "state": pl.Int64, "from_at": INSTANT, "to_at": INSTANT, "next": pl.Int64}
    return told, pl.DataFrame(history, schema=schema, orient="row")


def recorded(start, end, seed):
    """The market's frames of a month, from the recorded series; rental rates are made up, since none are recorded then."""

    def series(name, margin=timedelta(days=2)):
        frame = pl.read_parquet(DATA / name)
        [stamp] = [column for column, kind in frame.schema.items() if kind.is_temporal()]
        instants = frame.with_columns(start_at=pl.col(stamp).cast(INSTANT)).filter(pl.col("start_at") >= start - margin)
        return instants.filter(pl.col("start_at") < end + margin)

    prices, capacity = series("ercot/ercot_rt_15min_hubavg.parquet"), series("ercot/ercot_dam_as_mcpc_hourly.parquet")
    network = series("btc/bitcoin_network_daily.parquet")
    loads = series("ercot/ercot_native_load_hourly.parquet", timedelta(days=31))
    hours = [start - timedelta(hours=1) + timedelta(hours=n) for n in range((end - start) // timedelta(hours=1) + 1)]
    rates = np.random.default_rng(seed).uniform(1.8, 2.9, len(hours)).round(4)
    products = {name: name.split("_")[0].upper() for name in capacity.columns if "_mcpc_" in name}
    return Market(
        prices.select("start_at", settlement_point=pl.lit(POINT), price_usd_per_mwh="rt_price_usd_per_mwh"),
        network.select("start_at", hashprice_usd_per_ph_day="hashprice_usd_per_ph_per_day_derived"),
        pl.DataFrame({"start_at": hours, "gpu_type": "H100", "rate_usd_per_gpu_hour": rates}).with_columns(
            pl.col("start_at").cast(INSTANT)
        ),
        capacity.rename(products)
        .unpivot(list(products.values()), index="start_at", variable_name="product", value_name="price_usd_per_mw_h")
        .drop_nulls(),
        loads.select("start_at", load_mw="ercot_load_mw"),
    )


def owed(start):
    """Reserves over ten days, one that failed when it was called, and an event of demand response."""
    day, hour = timedelta(days=1), timedelta(hours=1)
    rows = [
        (1, "ECRS", "settled", 0.05, start, start + 10 * day, 600.0, 3600.0, 15e3, None, None, None, None),
        (2, "NSPIN", "failed", 0.04, start + 4 * day, start + 5 * day, 1800.0, 7200.0, 15e3, start + 4 * day + 7 * hour,
         start + 4 * day + 8.7 * hour, 0.2, 0.6),
        (3, "DR-1", "settled", 0.06, start + 12 * day, start + 13 * day, 300.0, 9000.0, 5e3, start + 12 * day + 20 * hour,
         None, 0.16, 1.0),
        (4, "RRS", "withdrawn", 0.05, start, start + day, 600.0, 3600.0, 15e3, None, None, None, None),
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=OBLIGATION, orient="row")


def meters(start, end, seed):
    """What a meter read on every other day."""
    rng = np.random.default_rng(seed)
    starts = [start + n * timedelta(minutes=15) for n in range((end - start) // timedelta(minutes=15))]
    chosen = [at for at in starts if at.day % 2]
    rows = [(at, round(float(rng.uniform(0.02, 0.06)), 6), "metered") for at in chosen]
    return pl.DataFrame(rows, schema=METERED, orient="row")


def hashes(start, end, seed):
    """What the miners of the first group told on every third day."""
    rng = np.random.default_rng(seed + 1)
    starts = [start + n * timedelta(minutes=15) for n in range((end - start) // timedelta(minutes=15))]
    group = INVENTORY.groups[0].group_id
    rows = [(at, group, round(float(rng.uniform(0.0, 0.04)), 6), "told") for at in starts if at.day % 3 == 0]
    return pl.DataFrame(rows, schema=HASHED, orient="row")


def devices():
    """What a device of each group draws and hashes in each state, from the inventory: (first and last slot, state, kW, TH/s)."""
    rows = []
    for group in INVENTORY.groups:
        hashes = group.specifications.get("hash_rate_by_state_th_per_s", {})
        for step in group.ladder:
            state = DeviceState(step.state)
            rows.append(
                (group.group_id, group.first_slot, group.first_slot + group.devices - 1, int(state), state.label,
                 step.power_kw * INVENTORY.pue, hashes.get(state.label, 0.0), max(hashes.values(), default=0.0),
                 group.type is ResourceType.GPU)
            )  # fmt: skip
    return pl.DataFrame(
        rows, orient="row",
        schema=["group_id", "first", "last", "state", "label", "kw", "th_per_s", "top_th_per_s", "is_gpu"],
    )  # fmt: skip


PLAIN_SQL = """
with q as (
    select generate_series as t, generate_series + interval 15 minute as u, p.price_usd_per_mwh as p,
           h.hashprice_usd_per_ph_day as hp,
           (select rate_usd_per_gpu_hour from rates r where r.start_at <= generate_series order by r.start_at desc limit 1) as r
    from generate_series($start, $end - interval 15 minute, interval 15 minute)
    left join prices p on p.start_at = generate_series
    left join hashprices h on h.start_at = date_trunc('day', generate_series)),
s as (  -- hours of each device in each state of each interval
    select q.t, q.p, q.hp, q.r, d.*, epoch(least(q.u, h.to_at) - greatest(q.t, h.from_at)) / 3600 as hours
    from q join history h on h.from_at < q.u and h.to_at > q.t
    join devices d on h.slot between d.first and d.last and h.state = d.state),
drawn as (select t, sum(hours * kw) / 1000 as mwh from s group by t),
e as (select q.t, q.p, coalesce(m.energy_mwh, d.mwh) as mwh
      from q left join drawn d using (t) left join meter m on m.start_at = q.t),
peak as (select start_at from loads where month((start_at at time zone 'America/Chicago')) between 6 and 9
         qualify row_number() over (partition by date_trunc('month', start_at at time zone 'America/Chicago')
                                    order by load_mw desc) = 1),
woken as (  -- a switch from what earns nothing to what earns, at the interval in which it came
    select q.t, q.hp, q.r, o.group_id, o.is_gpu, o.top_th_per_s from history h
    join q on h.to_at >= q.t and h.to_at < q.u
    join devices o on h.slot between o.first and o.last and h.state = o.state
    join devices n on h.slot between n.first and n.last and h.next = n.state
    where h.next is not null and o.label in ('curtailed', 'idle') and n.label not in ('curtailed', 'idle')),
gaps as (  -- what miners told beyond their states, but for the ten minutes that a wake is taken to lose
    select q.t, q.hp, h.ph_days
        - (select coalesce(sum(hours * th_per_s), 0) from s where s.t = q.t and s.group_id = h.group_id) / 24000
        + (select coalesce(sum(top_th_per_s), 0) from woken w where w.t = q.t and w.group_id = h.group_id) / 24000 * 10 / 60
        as ph_days
    from hashed h join q on q.t = h.start_at),
lines as (
    select t, 'energy' as kind, -mwh * p as usd from e
    union all select t, 'adders', -mwh * $adders from e where $adders <> 0
    union all select t, 'hedge', 0.05 * 0.25 * (p - $hedge) from q where t < $start + interval 20 day
    union all select t, 'peak_charge', -mwh * $peak * 1000 / 4 from e join peak on peak.start_at = date_trunc('hour', t)
    union all select t, 'mining', hours * th_per_s * hp / 24000 from s where th_per_s > 0
    union all select t, 'pool_fee', -hours * th_per_s * hp / 24000 * $fee from s where th_per_s > 0
    union all select t, 'hash_deviation', ph_days * hp from gaps
    union all select t, 'pool_fee', -ph_days * hp * $fee from gaps
    union all select t, 'inference', hours * $sold * r from s where label like 'inference%'
    union all select t, 'reserves', 0.05 * 0.25 * c.price_usd_per_mw_h from q
        join capacity c on c.start_at = date_trunc('hour', t) and c.product = 'ECRS' where t < $start + interval 10 day
    union all select t, 'reserves', 0.04 * 0.25 * c.price_usd_per_mw_h from q
        join capacity c on c.start_at = date_trunc('hour', t) and c.product = 'NSPIN'
        where t >= $start + interval 4 day and t < $start + interval 5 day
    union all select t, 'penalties', -0.04 * 0.4 * 15000 *  -- called at 07:00 with half an hour's notice, recalled at 08:42
        greatest(0, epoch(least(u, $start + interval 6282 minute) - greatest(t, $start + interval 6210 minute)) / 3600) from q
    union all select t, 'demand_response', $response * least(greatest(0.16 - mwh / 0.25, 0), 0.06) *
        greatest(0, epoch(least(t + interval 15 minute, $start + interval 12 day + interval 1355 minute)
                          - greatest(t, $start + interval 12 day + interval 1205 minute)) / 3600) from e
    union all select t, 'wakes', case when is_gpu then -r * $sold / 60
        else -(top_th_per_s * hp / 24000 * (1 - $fee) * 10 / 60 + 0.05 * top_th_per_s / 200) end from woken)
select cast(t at time zone 'America/Chicago' as date) as operating_day, kind, sum(usd) as usd
from lines group by all having abs(sum(usd)) > 0 order by all
"""


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2024, 3, 10), 23), (date(2024, 8, 20), 24), (date(2024, 11, 3), 25)], ids=str
)
def test_a_month_settles_as_in_plain_sql(day, hours):
    month = day.month
    start, end = month_of(day.year, month)
    told, history = made_up_states(start, end, seed=month)
    market, meter, hashed = (made(start, end, seed=month) for made in (recorded, meters, hashes))
    terms = Terms([(start, start + timedelta(days=20), 0.05, HEDGE_USD)], PEAK_USD_PER_KW_YEAR)
    site = replace(FLEET.site, settlement_point=POINT, adders_usd_per_mwh=2.5)
    facility = Facility(replace(FLEET, site=site), terms, {"DR-1": RESPONSE_USD})
    cuts = [start + timedelta(days=n) for n in range(0, (end - start).days, 5)]
    windows = list(pairwise([*cuts, end]))
    walk = Walk(journal(*told), FLEET, FIRST_SLOTS)
    lines = [
        booked(settle(day_of(facility, market, owed(start), Told(meter, hashed), window), done), "hou-1")
        for window, done in zip(windows, spells(walk, windows), strict=True)
    ]
    settled = pl.concat(lines)
    assert settled["usd"].dtype == pl.Decimal(18, 6)
    assert len(settled.filter(pl.col("kind") == "energy", pl.col("operating_day") == day)) == hours * 4
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        tables = market.__dict__ | {"history": history, "devices": devices(), "meter": meter, "hashed": hashed}
        for name, frame in tables.items():
            connection.register(name, frame.to_arrow())
        by_hand = connection.execute(
            PLAIN_SQL,
            {"start": start, "end": end, "adders": 2.5, "hedge": HEDGE_USD, "peak": PEAK_USD_PER_KW_YEAR,
             "fee": site.pool_fee_fraction, "sold": site.gpu_utilization, "response": RESPONSE_USD},
        ).pl()  # fmt: skip
    ours = (
        settled.group_by("operating_day", "kind").agg(pl.col("usd").sum().cast(pl.Float64)).filter(pl.col("usd") != 0)
    )
    both = ours.join(by_hand, on=["operating_day", "kind"], how="full", suffix="_by_hand", coalesce=True)
    off = both.with_columns(off=(pl.col("usd").fill_null(0) - pl.col("usd_by_hand").fill_null(0)).abs())
    assert off.filter(pl.col("off") > CENT).sort("operating_day", "kind").to_dicts() == []
    assert len(both) > 150
    total = both.select(pl.col("usd", "usd_by_hand").sum()).row(0)
    assert round(total[0], 2) == round(total[1], 2)
    kinds = {
        "energy",
        "adders",
        "hedge",
        "mining",
        "hash_deviation",
        "pool_fee",
        "inference",
        "reserves",
        "penalties",
        "demand_response",
        "wakes",
    }
    assert set(ours["kind"]) == kinds | ({"peak_charge"} if month == 8 else set())
