"""A trial: who is compared with whom, and what its card tells of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from hcp_pipelines.forecasting.learnable.models import SeasonalNaive
from hcp_pipelines.forecasting.serving import Served
from hcp_pipelines.orchestration.training import card
from hcp_pipelines.orchestration.training.trial import hold, overall
from hcp_pipelines.storage.models import Serving
from tests.support import sine
from tests.support.sine import DAYS, NOW, SINE, TABLE

NAIVE, SEASONAL, TREES = SINE.models


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


def test_weaknesses_are_told_worst_first(examples):
    found = hold(SINE, examples, NOW, NAIVE, 0, None)
    told = list(card.weaknesses(found))
    assert told
    worse = [line for line in told if "times as wrong as the naive forecast" in line]
    assert worse == sorted(worse, key=lambda line: -float(line.split("its median is ")[1].split()[0]))
