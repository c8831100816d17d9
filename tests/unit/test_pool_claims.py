"""Who lies is found among miners that break, sleep and wake as the world has it, and no honest one is taken for a liar."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
from pyroaring import BitMap

from hcp_pipelines.orchestration.history.pool import LEAST_HOURS, claimed_as_credited
from simulators.faults import LYING
from simulators.pool.ledger import DAY_S, HASHES_PER_SHARE, HOUR_S, VALID, SiteLedger
from tests.support.world import ASLEEP, FULL, T0, make_site, site_config, typical

MINERS, SAMPLE_S = 3000, 600
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
