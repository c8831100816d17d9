"""The shadow's evidence is the same days whenever it is asked for, and is looked at twice."""

from dataclasses import replace

import numpy as np
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import instant
from hcp_pipelines.forecasting.learnable.lessons import DAY_US
from hcp_pipelines.forecasting.learnable.scoring import Forecasts
from hcp_pipelines.orchestration.training.looks import NoLookError, alpha, in_newest_look, looks
from tests.support.learnable import examples_of


@pytest.fixture(scope="module")
def said():
    examples = examples_of(days=40)
    return Forecasts("challenger", examples, np.zeros((len(examples), 1)), (0.5,))


def ahead(said, days):
    """The same answers, of questions asked so many days earlier."""
    examples = replace(said.examples, asked_us=said.examples.asked_us - (days - 1) * DAY_US)
    return replace(said, examples=examples)


def looked_at(said, days):
    """The days that are looked at when so many have come to be known."""
    day = said.examples.wanted_us // DAY_US
    chosen = day < day.min() + days
    known = Forecasts(said.model, said.examples.only(chosen), said.quantiles[chosen], said.levels)
    until = instant(int(known.examples.asked_us.min()))
    return np.unique(in_newest_look(known, until, until).examples.wanted_us // DAY_US).tolist()


def test_days_that_come_later_change_no_look(said):
    first = int((said.examples.wanted_us // DAY_US).min())
    assert {tuple(looked_at(said, days)) for days in range(15, 22)} == {tuple(range(first, first + 14))}
    assert {tuple(looked_at(said, days)) for days in range(22, 35)} == {tuple(range(first, first + 21))}
    assert alpha(1) == 0.025


def test_before_the_first_and_after_the_last_look_there_is_none(said):
    with pytest.raises(NoLookError, match="13 days are known: it is looked at after 14 and 21"):
        looked_at(said, 14)
    with pytest.raises(ConfigError, match="its looks after 14 and 21 days are past") as past:
        in_newest_look(said, instant(0), instant(1))
    assert not isinstance(past.value, NoLookError)


def test_what_is_looked_far_ahead_is_looked_at_later_once_or_never(said):
    week = ahead(said, 7)
    first = int((said.examples.wanted_us // DAY_US).min())
    with pytest.raises(NoLookError, match="27 days are known: it is looked at after 28"):
        looked_at(week, 28)
    assert {tuple(looked_at(week, days)) for days in range(29, 40)} == {tuple(range(first, first + 28))}
    assert alpha(7) == 0.05
    assert looks(4) == (21,)
    with pytest.raises(NoLookError, match="it looks 30 days ahead: 120 days must be compared, its trial has them"):
        looked_at(ahead(said, 30), 40)
