"""AI work behind its protocol: what is made up by day, and that other work, with deadlines of its own, can stand in its place."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from hcp_pipelines.optimizer.ai_work import (
    Ahead,
    AiWork,
    DailyJob,
    Inference,
    InferenceClass,
    SyntheticWork,
    whole_days,
)
from hcp_pipelines.optimizer.backtest.mixed.foresight import foresee
from hcp_pipelines.optimizer.backtest.mixed.ledger import settle
from hcp_pipelines.optimizer.backtest.mixed.rules import ALL_RULES, decide
from hcp_pipelines.optimizer.backtest.mixed.world import Actions
from hcp_pipelines.optimizer.programme import Training
from tests.support.mixed import SITE, bound, world

WORK = SyntheticWork(
    (InferenceClass(2000.0, 6.0),), (DailyJob("night", 0, 8.0, 2.0, 900.0), DailyJob("noon", 12, 3.0, 1.0, 500.0))
)
AUTUMN = [0, 1, 1, *range(2, 24)]  # local hours of the day with 25


def ahead(local_hours, days, steps=4):
    hours = np.array(local_hours)
    return Ahead(3_600_000_000 * np.arange(len(hours)), hours, np.array(days), steps)


def test_inference_has_three_steps_a_day():
    mw = WORK.inference(ahead(range(24), [0] * 24, steps=1)).mw
    assert mw.tolist() == [[4.0] * 7 + [5.0] * 10 + [6.0] * 7]
    fine = WORK.inference(ahead(range(24), [0] * 24))
    assert fine.usd_per_mwh.tolist() == [2000.0]
    assert fine.mw.shape == (1, 96)


def test_jobs_are_of_whole_local_days_and_last_until_midnight():
    span = ahead([22, 23, *AUTUMN, *range(24), 0, 1], [0] * 2 + [1] * 25 + [2] * 24 + [3] * 2)
    assert whole_days(span) == [slice(2, 27), slice(27, 51)]
    night, noon = WORK.jobs(span)
    assert [(job.release, job.deadline) for job in night] == [(8, 108), (108, 204)]
    assert [(job.release, job.deadline) for job in noon] == [
        (4 * 15, 108),
        (4 * 39, 204),
    ]  # noon is the 14th hour there
    assert noon[0] == Training("noon-2", 3.0, 60, 108, 1.0, 500.0)


def test_a_share_of_the_work_is_worth_the_same_a_mwh():
    half = WORK.scaled(0.5)
    assert (half.most_inference_mw, half.most_training_mw) == (3.0, 1.5)
    assert [(job.work_mwh, job.usd_per_mwh) for job in half.daily] == [(4.0, 900.0), (1.5, 500.0)]


@dataclass(frozen=True)
class Queue:
    """Two slots of jobs with deadlines of their own, one class of requests whose demand nobody could guess from the clock."""

    most_inference_mw: float = 5.0
    most_training_mw: float = 5.0

    def inference(self, ahead):
        return Inference(np.array([300.0]), np.random.default_rng(1).uniform(0, 5, (1, ahead.intervals)))

    def jobs(self, ahead):
        return (
            (Training("a", 6.0, 3, 30, 2.0, 800.0), Training("b", 4.5, 41, 95, 2.0, 200.0)),
            (Training("c", 15.0, 10, 70, 3.0, 500.0),),
        )


def queued(days=2, site=SITE, **more):
    work: AiWork = Queue()
    return replace(world(days=days, **more), site=replace(site, ai=work))


def test_each_job_is_paid_by_its_own_value_and_counted_by_its_own_deadline():
    here = queued(days=1)
    idle, training = np.zeros((2, 96)), np.zeros((2, 96))
    training[0, 3:15] = 2.0  # a: 6 MWh
    training[0, 41:50] = 2.0  # b: 4.5 MWh
    training[1, 10:29] = 3.0  # c: 14.25 of 15 MWh
    done = settle(here, Actions(idle, idle, np.zeros((2, 24)), np.zeros((1, 96)), training))
    assert done.parts()["training"] == pytest.approx(6 * 800 + 4.5 * 200 + 14.25 * 500)
    assert (done.deadlines_missed, done.jobs) == (1, 3)


@pytest.mark.parametrize("rules", ALL_RULES, ids=lambda rules: rules.name)
def test_strategies_meet_the_deadlines_of_a_queue_and_none_beats_the_oracle(rules):
    here = queued(charges=(15,))
    done, best = settle(here, decide(here, rules)), settle(here, foresee(here))
    assert (done.jobs, done.deadlines_missed, best.deadlines_missed) == (3, 0, 0)
    assert done.total_usd <= best.total_usd + 1e-6


def test_work_begins_when_it_is_released_even_within_an_hour():
    here = queued()
    for actions in (decide(here, ALL_RULES[0]), decide(here, ALL_RULES[-1]), foresee(here)):
        mw = actions.training_mw
        assert mw[0, :3].sum() == mw[0, 30:41].sum() == mw[0, 95:].sum() == 0
        assert mw[1, :10].sum() == mw[1, 70:].sum() == 0


def test_under_limits_a_queue_is_planned_by_the_same_programme():
    loose = foresee(queued())
    tight = queued(site=bound(SITE, 1e3))
    assert settle(tight, foresee(tight)).parts()["training"] == pytest.approx(
        settle(queued(), loose).parts()["training"]
    )
    bound_ones = queued(site=bound(SITE, 40.0))
    done = settle(bound_ones, foresee(bound_ones))
    assert done.deadlines_missed == 0
    assert done.load_mw.max() <= 40.0 + 1e-6
