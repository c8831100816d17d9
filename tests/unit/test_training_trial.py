"""A trial: who is compared with whom, and what its card tells of it."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hcp_pipelines.forecasting.hours import microseconds
from hcp_pipelines.forecasting.learnable.lessons import DAY_US
from hcp_pipelines.forecasting.learnable.models import SeasonalNaive
from hcp_pipelines.forecasting.learnable.targets.demand import CHANGES, DEMAND
from hcp_pipelines.forecasting.serving import Served
from hcp_pipelines.orchestration.training import card
from hcp_pipelines.orchestration.training.trial import TRIAL, hold, overall, trial_of
from hcp_pipelines.storage.models import Serving
from tests.support import sine
from tests.support.sine import DAYS, NOW, SINE, TABLE

NAIVE, SEASONAL, TREES = SINE.models
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def examples():
    return SINE.examples({TABLE: sine.hours()}, (NOW - timedelta(days=DAYS), NOW))


def served(model, examples, until):
    return Served(Serving("sine", 4, "x", until), model.fit(examples, until))


def test_without_a_champion_the_best_baseline_stands_in_whatever_their_order(examples):
    copy = SeasonalNaive(name="copy")
    for order in ((NAIVE, SEASONAL, copy), (SEASONAL, NAIVE, copy)):
        found = hold(replace(SINE, models=order), examples, NOW, copy, 0, None)
        loss = {name: overall(table)["pinball"] for name, table in found.scores.items()}
        assert loss["seasonal_naive"] < loss["naive"]
        assert (found.against, found.comparison.other) == (None, "seasonal_naive")
        assert not found.comparison.is_better


def test_an_old_champion_is_asked_itself_and_a_young_one_by_its_recipe(examples):
    old = hold(SINE, examples, NOW, TREES, 0, served(NAIVE, examples, NOW - timedelta(days=40)))
    young = hold(SINE, examples, NOW, TREES, 0, served(NAIVE, examples, NOW - timedelta(days=1)))
    assert old.against == young.against == 4
    assert old.comparison.is_better
    assert young.comparison.is_better
    assert old.comparison.loss_of_other != young.comparison.loss_of_other, "learnt until another instant"
    gone = hold(SINE, examples, NOW, TREES, 0, served(SeasonalNaive(name="gone"), examples, NOW - timedelta(days=1)))
    assert gone.comparison is None
    assert "champion 4 can't be asked about the same weeks: sine has no model 'gone'" in gone.why


def test_a_trial_of_demand_tells_dollars_of_all_that_were_asked():
    """Two months of training that comes by day more than by night, eight GPUs for six hours each."""
    hours = np.arange(60 * 24)
    began = [NOW - timedelta(hours=int(60 * 24 - h)) for h in np.repeat(hours, np.where(hours % 24 < 12, 3, 1))]
    came = pl.DataFrame({"demand_class": "model_training", "gpus": 8.0, "began_at": began, "known_at": began})
    gone = came.with_columns(gpus=-pl.col("gpus"), known_at=pl.col("known_at") + timedelta(hours=6))
    changes = pl.concat([came, gone]).filter(pl.col("known_at") < NOW)
    asked = DEMAND.examples({CHANGES: changes}, (NOW - timedelta(days=60), NOW))
    found = hold(DEMAND, asked, NOW, DEMAND.models[0], 0, None)
    dollars = {each.name: each.usd_per_unit_year for each in found.value}
    assert set(dollars) == {"challenger", "naive", "oracle"}
    assert dollars["oracle"] >= dollars["challenger"] > dollars["naive"], "each day is as the one before"
    assert found.value_note == ""


def test_weaknesses_are_told_worst_first(examples):
    found = hold(SINE, examples, NOW, NAIVE, 0, None)
    told = list(card.weaknesses(found))
    assert told
    worse = [line for line in told if "times as wrong as the naive forecast" in line]
    assert worse == sorted(worse, key=lambda line: -float(line.split("its median is ")[1].split()[0]))


@pytest.mark.parametrize(
    ("ahead_days", "known_days", "days"),
    [(1, 90, 28), (7, 90, 31), (7, 60, 30), (30, 365, 123), (30, 100, 50), (30, 40, 28)],
)
def test_a_trial_is_as_long_as_a_check_must_see_where_so_much_is_known(examples, ahead_days, known_days, days):
    first = examples.only(np.array([0]))
    at_us = microseconds(NOW - timedelta(days=known_days))
    last = at_us + (ahead_days - 1) * DAY_US
    found = trial_of(replace(first, asked_us=np.array([at_us]), wanted_us=np.array([last])), NOW)
    assert found == timedelta(days=days)
    assert found >= TRIAL


LEARN = """
from tests.support.sine import *
model = SINE.models[-1]
examples = SINE.examples({TABLE: hours()}, (NOW - timedelta(days=DAYS), NOW))
forest = Forest(Framing(""), SMALL, trees=4, least_in_leaf=20)
print([digest_of(each.fit(examples, NOW, 7).to_bytes()) for each in (model, forest)])
"""


def test_two_clean_processes_learn_the_same_bytes():
    """With other hashes of text and other numbers of threads."""

    def learnt(hashes, threads):
        threads_of = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), threads)
        own = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": hashes, **threads_of}
        argv = [sys.executable, "-c", "from hcp_pipelines.forecasting.learnable.models import Forest\n" + LEARN]
        return subprocess.run(argv, env=own, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    one, two = learnt("1", "1"), learnt("2", "4")
    assert one == two
    assert len(set(re.findall("[0-9a-f]{64}", one))) == 2


def test_a_recipe_learns_from_its_days_before_each_origin_however_much_is_read(examples):
    from_all, from_some = (hold(SINE, examples, NOW, TREES, 0, None, learnt) for learnt in (None, timedelta(days=30)))
    assert from_all.window == from_some.window
    first = [each.fitted.describe()["first"] for each in (from_all, from_some)]
    assert first[0] < first[1] == (NOW - timedelta(days=30)).isoformat()
    assert overall(from_all.scores["challenger"])["pinball"] != overall(from_some.scores["challenger"])["pinball"]
