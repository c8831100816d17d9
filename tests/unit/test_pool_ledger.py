"""What simulated miners are credited: by their true hashes, each window once, whoever lies, looks or is restarted."""

import numpy as np
import pytest
from pyroaring import BitMap

from simulators.bitcoin import BitcoinNetwork
from simulators.faults import LYING
from simulators.pool.config import PoolConfig
from simulators.pool.ledger import DAY_S, HASHES_PER_SHARE, HOUR_S, REJECTED, STALE, VALID, WINDOW_S, SiteLedger
from simulators.pool.limiter import Limiter
from simulators.pool.payouts import Payouts
from tests.support.world import EVERY_MINER, FULL, MINERS, T0, make_site

NETWORK = BitcoinNetwork(7)


def blocks(at_s, count):
    return NETWORK.blocks_before(at_s, count)[::-1]


def ledger_of(site, folder, keep_days=8):
    made = SiteLedger(site, 7, folder, keep_days, Payouts(PoolConfig(), 7, blocks).satoshi_per_difficulty)
    made.start()
    return made


def working_site():
    site = make_site()
    site.set_state(FULL, EVERY_MINER, T0)
    return site


def test_credits_are_the_true_hashes_with_a_pools_noise(tmp_path):
    site = working_site()
    ledger = ledger_of(site, tmp_path)
    site.advance(T0 + 2 * HOUR_S)
    done = site.hashed_th(T0 + 2 * HOUR_S)[:MINERS] * 1e12 / HASHES_PER_SHARE
    shares = ledger.figures(0, MINERS).shares
    assert shares[VALID].sum() == pytest.approx(0.996 * done.sum(), rel=0.005)
    assert shares[STALE].sum() == pytest.approx(0.002 * done.sum(), rel=0.2)
    assert shares[REJECTED].sum() == pytest.approx(0.002 * done.sum(), rel=0.2)
    spread = (shares[VALID] - 0.996 * done) / np.sqrt(done)
    assert 0.8 < spread.std() < 1.2  # as Poisson shares spread, no more and no less
    rates = ledger.figures(0, MINERS).hashes_per_s
    assert rates["60m"].mean() == pytest.approx(
        0.996 * site.hashrate_th_per_s(T0 + 2 * HOUR_S)[:MINERS].mean() * 1e12, rel=0.01
    )
    assert rates["5m"].std() > 2 * rates["60m"].std()


def test_a_claim_moves_no_credit(tmp_path):
    honest, lying = working_site(), working_site()
    lying.impose(LYING, EVERY_MINER, T0)
    ledgers = [ledger_of(site, tmp_path / name) for name, site in (("a", honest), ("b", lying))]
    for site in (honest, lying):
        site.advance(T0 + HOUR_S)
    assert np.array_equal(ledgers[0].figures(0, MINERS).shares, ledgers[1].figures(0, MINERS).shares)
    told = lying.told_hashrate_th_per_s(T0 + HOUR_S)[:MINERS] * 1e12
    credited = ledgers[1].figures(0, MINERS).hashes_per_s["60m"]
    assert (told / credited).mean() > 1.12


def test_who_sleeps_is_credited_nothing(tmp_path):
    site = make_site()
    site.set_state(FULL, BitMap(range(10)), T0)
    ledger = ledger_of(site, tmp_path)
    site.advance(T0 + HOUR_S)
    figures = ledger.figures(0, MINERS)
    assert (figures.shares[VALID][:10] > 0).all()
    assert not figures.shares[:, 10:].any()
    assert (figures.last_share_s > 0).sum() == 10


def test_it_does_not_matter_how_often_anybody_looks(tmp_path):
    once, often = working_site(), working_site()
    ledgers = [ledger_of(site, tmp_path / name) for name, site in (("a", once), ("b", often))]
    once.advance(T0 + HOUR_S + 7)
    for second in range(0, HOUR_S + 8, 13):
        often.advance(T0 + second)
    often.advance(T0 + HOUR_S + 7)
    assert np.array_equal(ledgers[0].figures(0, MINERS).shares, ledgers[1].figures(0, MINERS).shares)


@pytest.mark.parametrize("stopped_s", [0, 100, WINDOW_S, 3 * WINDOW_S - 1])
def test_a_restart_loses_and_doubles_nothing(tmp_path, stopped_s):
    """Another process takes over from the files, while the world is some time behind or ahead of them."""
    whole, first = working_site(), working_site()
    expected = ledger_of(whole, tmp_path / "whole")
    ledger_of(first, tmp_path / "torn")
    first.advance(T0 + 5 * WINDOW_S + 50)
    saved = first.save()
    first.advance(T0 + 5 * WINDOW_S + 50 + stopped_s)  # and is killed; its state is of `saved`
    again = make_site(at_s=T0 + 5 * WINDOW_S + 50)
    again.restore(saved)
    second = ledger_of(again, tmp_path / "torn")
    for site in (whole, again):
        site.advance(T0 + 3 * HOUR_S)
    assert np.array_equal(second.figures(0, MINERS).shares, expected.figures(0, MINERS).shares)
    assert np.array_equal(second.day(int(T0 // DAY_S), 0, MINERS), expected.day(int(T0 // DAY_S), 0, MINERS))


def test_what_was_done_while_the_files_were_behind_counts_with_the_next_window(tmp_path):
    site = working_site()
    ledger_of(site, tmp_path)
    site.advance(T0 + 2 * WINDOW_S)
    site.calls = type(site.calls)()  # the world goes on without a pool
    site.advance(T0 + 5 * WINDOW_S + 10)
    second = ledger_of(site, tmp_path)
    site.advance(T0 + 12 * WINDOW_S)
    done = site.hashed_th(T0 + 12 * WINDOW_S)[:MINERS].sum() * 1e12 / HASHES_PER_SHARE
    assert second.figures(0, MINERS).shares[VALID].sum() == pytest.approx(0.996 * done, rel=0.01)


def test_work_without_a_pool_for_long_is_credited_to_nobody(tmp_path):
    site = working_site()
    ledger_of(site, tmp_path)
    site.advance(T0 + WINDOW_S)
    site.calls = type(site.calls)()
    site.advance(T0 + 6 * HOUR_S)
    second = ledger_of(site, tmp_path)
    site.advance(T0 + 7 * HOUR_S)
    an_hour = site.hashrate_th_per_s(T0 + 7 * HOUR_S)[:MINERS].sum() * HOUR_S * 1e12 / HASHES_PER_SHARE
    assert second.hour(int(T0 // HOUR_S) + 6)[VALID].sum(dtype=int) == pytest.approx(0.996 * an_hour, rel=0.01)
    assert not second.hour(int(T0 // HOUR_S) + 3).any()


def test_damaged_files_are_a_new_beginning(tmp_path):
    site = working_site()
    ledger = ledger_of(site, tmp_path)
    site.advance(T0 + WINDOW_S)
    (folder,) = tmp_path.iterdir()
    for path in folder.iterdir():
        path.write_bytes(b"PK nothing of the kind")
    again = working_site()
    again.advance(T0 + WINDOW_S)
    second = ledger_of(again, tmp_path)
    again.advance(T0 + 3 * WINDOW_S)
    assert second.figures(0, MINERS).shares[VALID].sum() > 0
    assert ledger.window == second.window - 2


def test_a_disk_that_takes_nothing_stops_neither_the_site_nor_the_counting(tmp_path, caplog):
    site = working_site()
    ledger = ledger_of(site, tmp_path)
    (folder,) = tmp_path.iterdir()
    folder.rmdir()
    folder.write_text("in the way")
    site.advance(T0 + HOUR_S - 1)
    assert ledger.figures(0, MINERS).shares[VALID].sum() > 0
    assert "can't keep the shares" in caplog.text
    folder.unlink()
    folder.mkdir()
    site.advance(T0 + 2 * HOUR_S)
    done = site.hashed_th(T0 + 2 * HOUR_S)[:MINERS].sum() * 1e12 / HASHES_PER_SHARE
    assert ledger.figures(0, MINERS).shares[VALID].sum() == pytest.approx(0.996 * done, rel=0.01), "written later"


def test_old_days_are_forgotten(tmp_path):
    site = make_site()
    ledger_of(site, tmp_path, keep_days=2)
    site.advance(T0 + 3 * DAY_S)
    (folder,) = tmp_path.iterdir()
    days = sorted(int(path.stem) for path in folder.glob("*.hours"))
    assert days == [int(T0 // DAY_S) + 1, int(T0 // DAY_S) + 2]


def test_a_day_is_paid_by_its_shares_whatever_the_pool_finds(tmp_path):
    site = working_site()
    ledger = ledger_of(site, tmp_path)
    site.advance(T0 + DAY_S)
    payouts, day = Payouts(PoolConfig(fee_fraction=0.02), 7, blocks), int(T0 // DAY_S)
    ph = site.hashrate_th_per_s(T0 + DAY_S)[:MINERS].sum() / 1000
    earned = payouts.earned_btc([ledger], day)
    per_ph_day = 1e15 * DAY_S / (109.78e12 * 2**32) * 3.2  # 109.78 T, 3.125 BTC and fees
    assert earned == pytest.approx(0.98 * 0.996 * ph * per_ph_day, rel=0.04)
    free = Payouts(PoolConfig(fee_fraction=0.0), 7, blocks)
    assert free.earned_btc([ledger], day) == pytest.approx(earned / 0.98)
    assert payouts.earned_btc([ledger], day + 1) == 0.0


def test_what_was_ever_earned_outlasts_the_days_that_are_kept_and_restarts(tmp_path):
    site = working_site()
    ledger, payouts, day = ledger_of(site, tmp_path, keep_days=2), Payouts(PoolConfig(), 7, blocks), int(T0 // DAY_S)
    earned = 0.0
    for passed in range(1, 4):
        site.advance(T0 + passed * DAY_S)
        earned += payouts.earned_btc([ledger], day + passed - 1)
    assert payouts.earned_btc([ledger], day) == 0.0  # no longer kept
    assert payouts.all_time_btc([ledger]) == pytest.approx(earned)
    site.calls = type(site.calls)()
    site.advance(T0 + 3 * DAY_S + 6 * HOUR_S)  # longer than a window is waited for
    assert payouts.all_time_btc([ledger_of(site, tmp_path, keep_days=2)]) == pytest.approx(earned)


def test_luck_is_one_on_average_and_never_the_same_for_two_pools():
    lucks = [Payouts(PoolConfig(network_share=0.05), seed, blocks).found(T0, 3).luck for seed in range(20)]
    assert np.mean([luck[250] for luck in lucks]) == pytest.approx(1.0, abs=0.06)
    assert len({luck[10] for luck in lucks}) > 15
    found = Payouts(PoolConfig(network_share=0.05), 7, blocks).found(T0, 3)
    assert len(found.blocks) == 3
    assert all(block.timestamp_s <= T0 for block in found.blocks)


def test_the_limit_counts_by_token_and_minute():
    limiter = Limiter(2)
    said = [limiter.take("a", 60.0 + second) for second in (0, 1, 2.5)]
    assert [(one.is_allowed, one.remaining, one.reset_s) for one in said] == [
        (True, 1, 60),
        (True, 0, 59),
        (False, 0, 58),
    ]
    assert said[2].headers["Retry-After"] == "58"
    assert "Retry-After" not in said[0].headers
    assert limiter.take("b", 63.0).is_allowed
    assert limiter.take("a", 120.0).is_allowed
    assert limiter.refused == 1
