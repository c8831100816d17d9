"""Who lies is found among miners that break, sleep and wake as the world has it, and no honest one is taken for a liar."""

from datetime import UTC, datetime
from itertools import product

import duckdb
import jinja2
import numpy as np
import polars as pl
from pyroaring import BitMap

from hcp_pipelines.orchestration.dbt_project import PROJECT, project_number
from hcp_pipelines.orchestration.history.pool import claimed_as_credited
from simulators.faults import LYING
from simulators.pool.ledger import DAY_S, HASHES_PER_SHARE, HOUR_S, VALID, SiteLedger
from tests.support.world import ASLEEP, FULL, T0, make_site, site_config, typical

MINERS, SAMPLE_S = 3000, 600
LEAST_HOURS = project_number("claims_least_hours")
SLEEPERS = BitMap(range(0, MINERS, 3))  # from 05:30 to 12:30


class Day:
    """A day of a site: what each miner told, by hours as telemetry's roll-up has it, and how often it lied."""

    def __init__(self, site):
        self.reported, self.hours, self.lies = (
            np.zeros(MINERS),
            np.zeros(MINERS, dtype=int),
            np.zeros(MINERS, dtype=int),
        )
        for hour in range(24):
            told = np.stack(
                [self._told(site, T0 + hour * HOUR_S + after_s) for after_s in range(SAMPLE_S // 2, HOUR_S, SAMPLE_S)]
            )
            said = ~np.isnan(told).all(axis=0)
            self.reported[said] += np.nanmean(told[:, said], axis=0) / 24
            self.hours += said
        site.advance(T0 + DAY_S)

    def _told(self, site, at_s):
        for state, half_past in ((ASLEEP, 5), (FULL, 12)):
            if at_s - SAMPLE_S < T0 + half_past * HOUR_S + 1800 <= at_s:
                site.set_state(state, SLEEPERS, T0 + half_past * HOUR_S + 1800)
        told = site.told_hashrate_th_per_s(at_s)[:MINERS]
        self.lies += site.faults.mask(LYING, at_s)[:MINERS]
        return told


def test_liars_are_found_among_miners_that_break_and_sleep(tmp_path):
    site = make_site(typical(60.0), config=site_config(miners=MINERS, gpus=0))
    site.set_state(FULL, BitMap(range(MINERS)), T0)
    ledger = SiteLedger(site, 7, tmp_path, 8, lambda _at_s: 1.0)
    ledger.start()
    day = Day(site)
    shares = ledger.day(int(T0 // DAY_S), 0, MINERS)[VALID]
    devices = pl.DataFrame(
        {
            "facility_id": ["one"] * MINERS,
            "slot": range(MINERS),
            "day_at": [datetime.fromtimestamp(T0, UTC)] * MINERS,
            "hours": day.hours,
            "valid_shares": shares,
            "credited_th_per_s": shares * HASHES_PER_SHARE / DAY_S / 1e12,
            "reported_th_per_s": day.reported,
        }
    ).filter(pl.col("hours") >= LEAST_HOURS)
    found = set(claimed_as_credited(devices).told["liars"]["slot"])
    always = set(np.flatnonzero((day.lies == DAY_S // SAMPLE_S) & (day.hours >= LEAST_HOURS) & (shares > 1000)))
    ever = set(np.flatnonzero(day.lies > 0))
    assert len(always) >= 5
    assert always <= found
    assert found <= ever, "no honest miner is taken for a liar"
    assert len(devices) > 0.9 * MINERS


def test_the_mart_and_the_check_judge_alike():
    """Miners on both sides of each threshold, through the mart's own expression in DuckDB."""
    shares, credited = (None, 0, 1, 100, 10_000, 30_000), (0.0, 0.5, 100.0)
    factors = (0.9, 1.0499, 1.0501, 1.0729, 1.0732, 1.0899, 1.0901, 1.4499, 1.4501, 5.0499, 5.0501)
    rows = [(c, s, c * f if c else f - 0.1) for c, s, f in product(credited, shares, factors)]
    devices = pl.DataFrame(
        rows,
        schema={"credited_th_per_s": pl.Float64, "valid_shares": pl.Int64, "reported_th_per_s": pl.Float64},
        orient="row",
    ).with_row_index("slot")
    macro = jinja2.Environment(autoescape=False).from_string(
        (PROJECT / "macros" / "is_overclaiming.sql").read_text(), {"var": project_number}
    )
    rule = macro.module.is_overclaiming("reported_th_per_s", "credited_th_per_s", "valid_shares", "24")
    named = duckdb.sql(f"select slot from devices where {rule} order by slot").fetchall()
    found = claimed_as_credited(devices).told["liars"]["slot"].to_list()
    assert found == [slot for (slot,) in named]
    assert 20 < len(found) < len(devices) - 20
    assert duckdb.sql(f"select {macro.module.is_overclaiming('9', '1', '100', LEAST_HOURS - 1)}").fetchone() == (False,)
