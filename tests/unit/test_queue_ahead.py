"""The queue behind the protocol of AI work: what it asks for over the hours ahead, and the programme and strategies run on it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.optimizer.ai_work import Ahead, AiWork
from hcp_pipelines.optimizer.backtest.mixed.foresight import foresee
from hcp_pipelines.optimizer.backtest.mixed.ledger import settle
from hcp_pipelines.optimizer.backtest.mixed.rules import ALL_RULES, decide
from hcp_pipelines.optimizer.queue.ahead import DEADLINE_CLASSES, VALUE_CLASSES, QueueWork
from hcp_pipelines.optimizer.queue.deadlines import with_urgency
from hcp_pipelines.optimizer.queue.places import placed, places_of
from hcp_pipelines.optimizer.queue.valued import valued
from tests.support.mixed import SITE, world
from tests.support.work import CLASSES, NOW, gpus, held, inputs, job, queue, site

HOUR = 3600.0
REALTIME, BATCH, TRAINING = CLASSES


def work_of(*jobs, devices=100_000, now=NOW) -> AiWork:
    places = places_of([inputs(site([gpus(devices)]))])
    return QueueWork(now, valued(placed(with_urgency(queue(*jobs).work, {"H100": devices}), places), places))


def ahead(hours=24, steps=4, start=NOW):
    starts = round(start.timestamp() * 1e6) + 3_600_000_000 * np.arange(hours)
    return Ahead(starts, np.arange(hours) % 24, np.arange(hours) // 24, steps)


def test_realtime_work_is_demand_for_as_long_as_it_lasts():
    work = work_of(job(1, REALTIME, 100, estimated_s=1.25 * HOUR), job(2, REALTIME, 10, estimated_s=600.0))
    found = work.inference(ahead(2))
    assert work.most_inference_mw == pytest.approx(110 * 0.9 / 1000)
    assert found.mw.sum(axis=0) == pytest.approx([0.09 + 0.009 * 600 / 900, *[0.09] * 4, 0.0, 0.0, 0.0])
    assert found.mw.sum() / 4 == pytest.approx((100 * 1.25 + 10 / 6) * 0.9 / 1000)


def test_classes_of_value_are_the_pieces_own_in_rising_order():
    rates = [0.5, 1.0, 1.5, 1.9]
    found = work_of(*(held(n, kind=REALTIME, gpu_count=10, agreed=r) for n, r in enumerate(rates))).inference(ahead())
    assert found.usd_per_mwh == pytest.approx([r * 1000 / 0.9 for r in rates])


def test_jobs_are_due_when_they_said_and_worth_what_they_pay_and_what_is_owed():
    due = job(1, TRAINING, 100, estimated_s=2 * HOUR, due_in_s=5.1 * HOUR, credit_fraction=0.25)
    open_ended = held(2, kind=BATCH, gpu_count=50, estimated_s=3 * HOUR, agreed=1.0)
    beyond = job(3, TRAINING, 10, estimated_s=30 * HOUR, due_in_s=100 * HOUR, credit_fraction=0.25)
    jobs = [one for slot in work_of(due, open_ended, beyond).jobs(ahead()) for one in slot]
    first = next(one for one in jobs if one.name.startswith("due"))
    assert (first.work_mwh, first.release, first.deadline, first.most_mw) == (
        pytest.approx(0.2),
        0,
        20,
        pytest.approx(0.1),
    )
    assert first.penalty_usd_per_mwh == pytest.approx(2000 + 0.25 * 2 * 2 * 100 / 0.2)
    rest = [one for one in jobs if one.name.startswith("open")]
    assert {one.deadline for one in rest} == {96}
    assert sum(one.work_mwh for one in rest) == pytest.approx(50 * 3 * 0.8 / 1000 + 10 * 24 / 1000)
    assert max(one.penalty_usd_per_mwh for one in rest) == pytest.approx(2000.0)


def test_hours_that_began_before_are_not_given_back():
    [(one,)] = work_of(job(1, TRAINING, 10)).jobs(ahead(start=NOW - timedelta(hours=2)))
    assert one.release == 8


def test_what_can_not_be_done_in_time_any_more_is_offered_and_owes_nothing():
    [(one,)] = work_of(job(1, TRAINING, 10, estimated_s=HOUR, due_in_s=600.0, credit_fraction=1.0)).jobs(ahead())
    assert (one.deadline, one.penalty_usd_per_mwh) == (96, pytest.approx(2000.0))


def test_thousands_of_pieces_are_dozens_of_jobs_of_the_same_work():
    random = np.random.default_rng(3)
    pieces = [
        job(
            n, CLASSES[n % 3], int(random.integers(1, 9)), estimated_s=float(random.uniform(600, 20_000)),
            limit_usd_per_gpu_hour=2.0 if n % 5 else None, due_in_s=float(random.uniform(2e4, 2e5)) if n % 2 else None,
        )
        for n in range(4000)
    ]  # fmt: skip
    work = work_of(*pieces)
    jobs = work.jobs(ahead(48))
    assert 10 < len(jobs) <= 2 * DEADLINE_CLASSES * VALUE_CLASSES
    assert sum(one.most_mw for (one,) in jobs) == pytest.approx(work.most_training_mw)
    asked = sum(
        p["gpus"] * p["estimated_s"] / HOUR * {BATCH: 0.8, TRAINING: 1.0}[p["type"]]
        for p in pieces
        if p["type"] != REALTIME
    )
    assert sum(one.work_mwh for (one,) in jobs) == pytest.approx(asked / 1000)


def test_nothing_in_the_queue_asks_for_nothing():
    empty = work_of()
    assert (empty.most_inference_mw, empty.most_training_mw, empty.jobs(ahead())) == (0.0, 0.0, ())
    assert empty.inference(ahead()).mw.shape == (0, 96)


@pytest.mark.parametrize("rules", ALL_RULES, ids=lambda rules: rules.name)
def test_strategies_of_the_back_test_run_on_a_queue_meet_its_deadlines_and_none_beats_the_oracle(rules):
    plain = world(days=2)
    now = datetime.fromtimestamp(plain.ahead.starts_us[0] / 1e6, UTC)
    work = work_of(
        held(1, kind=REALTIME, gpu_count=2000, estimated_s=30 * HOUR, agreed=1.0),
        job(2, TRAINING, 2000, estimated_s=6 * HOUR, due_in_s=20 * HOUR, credit_fraction=0.25),
        held(3, gpu_count=1000, estimated_s=4 * HOUR, due_in_s=30 * HOUR, agreed=0.4),
        held(4, kind=BATCH, gpu_count=500, estimated_s=5 * HOUR, agreed=0.3),
        now=now,
    )  # fmt: skip
    here = replace(plain, site=replace(SITE, ai=work))
    done, best = settle(here, decide(here, rules)), settle(here, foresee(here))
    assert (done.jobs, done.deadlines_missed, best.deadlines_missed) == (3, 0, 0)
    assert done.total_usd <= best.total_usd + 1e-6
    assert done.parts()["training"] > 0
