"""Workers that really hash: hashrates by the wall clock, and room for those that find something."""

import pytest

from simulators.clock import ManualClock
from simulators.pool import outside
from simulators.pool.outside import OutsideWorkers, Worker
from simulators.pool.shares import Ruling, Verdict

VALID = Ruling(Verdict.VALID, 2.0)


def test_hashrate_is_what_was_credited_in_the_span():
    worker = Worker("a", 0.0)
    for minute in range(120):
        worker.credit(1.0, 60.0 * minute + 30)
    now_s = 7200.0
    assert worker.hashes_per_s(300, now_s) == pytest.approx(2**32 / 60)
    assert worker.hashes_per_s(3600, now_s) == pytest.approx(2**32 / 60)
    assert worker.hashes_per_s(86_400, now_s) == pytest.approx(2**32 / 60)  # of its whole life
    assert worker.hashes_per_s(300, now_s + 3600) == 0.0
    worker.credit(1.0, 3 * 86_400.0)
    assert worker.hashes_per_s(86_400, 3 * 86_400.0 + 60) == pytest.approx(2**32 / 86_400, rel=0.01)
    assert worker.difficulty_sum == 121.0


def test_where_there_are_too_many_those_go_that_found_nothing(monkeypatch):
    monkeypatch.setattr(outside, "MOST_WORKERS", 3)
    workers = OutsideWorkers(None, ManualClock(0.0))
    for name in ("idle", "good", "idler"):
        assert workers.refusal(name) == ""
        workers.enter(name)
    workers.book("good", VALID)
    workers.enter("new")
    assert set(workers.workers) == {"good", "idler", "new"}
    for name in ("idler", "new"):
        workers.book(name, VALID)
    assert "which is the most" in workers.refusal("another")
    assert workers.refusal("good") == ""


def test_only_one_account_may_work_where_the_pool_is_not_open():
    workers = OutsideWorkers("hcp", ManualClock(0.0))
    assert workers.refusal("hcp.rig") == workers.refusal("hcp") == ""
    assert "there is no such account" in workers.refusal("hcpx.rig")
    assert "letters" in workers.refusal("hcp.ri g")
    workers.enter("hcp.rig")
    assert set(workers.of("hcp")) == {"hcp.rig"}
    assert workers.of("hc") == {}
