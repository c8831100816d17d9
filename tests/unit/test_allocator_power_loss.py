"""A relay trip as obligations see it: from which load it is reckoned, whenever the news of it comes."""

import math

import pytest

from hcp_pipelines.allocator.power_loss import PowerLoss
from hcp_pipelines.policy.obligations import Obligation, Status

ARMED = Obligation(1, "f", "RRS", Status.ARMED, 10.0, 0.0, 1e6, 60.0, 3600.0, 60.0)
LOAD_MW, LOST_MW = 100.0, 20.0


def lost(*samples_mw, at_s=10.0):
    """Power is lost at an instant whose news come behind some samples of the meter."""
    power = PowerLoss()
    for n, meter_mw in enumerate(samples_mw):
        power.note(float(n), meter_mw)
    power.lose(at_s, LOST_MW, LOAD_MW)
    return power


@pytest.mark.parametrize(
    ("samples_mw", "meter_mw", "baseline_mw"),
    [
        ((99.0, 99.0, 80.0), 80.0, 99.0),  # news are late: the meter had shown it
        ((99.0, 99.0), 99.0, 99.0),  # news are early: the meter has not fallen yet
        ((80.0,), 80.0, 100.0),  # armed a moment ago: no sample is from before
        ((80.0,) * 7, 80.0, 100.0),  # news are later than samples are kept
        ((), 80.0, 100.0),
        ((), 99.0, 99.0),
        ((99.0,), math.nan, 99.0),
    ],
)
def test_a_deployment_by_relay_is_reckoned_from_the_load_before_it(samples_mw, meter_mw, baseline_mw):
    assert lost(*samples_mw).baseline_mw(ARMED, meter_mw) == baseline_mw


def test_a_meter_that_says_nothing_gives_no_baseline():
    assert math.isnan(lost().baseline_mw(ARMED, math.nan))


def test_without_a_loss_it_is_what_the_meter_shows():
    assert PowerLoss().baseline_mw(ARMED, 90.0) == 90.0


@pytest.mark.parametrize(
    ("samples_mw", "baseline_mw"),
    [
        ((50.0, 60.0, 90.0), 60.0),  # still coming on when it was called: it was not there to be shed
        ((90.0, 60.0), 60.0),  # already going off
        ((10.0, 90.0, 90.0), 90.0),
        ((90.0,), 90.0),
        ((60.0, math.nan, 90.0), 60.0),
    ],
)
def test_a_deployment_by_signal_is_reckoned_from_the_lower_of_the_samples_around_it(samples_mw, baseline_mw):
    power = PowerLoss()
    for n, meter_mw in enumerate(samples_mw):
        power.note(float(n), meter_mw)
    assert power.baseline_mw(ARMED, samples_mw[-1]) == baseline_mw


def test_a_second_feeder_adds_to_what_is_lost_and_not_to_what_there_was():
    power = lost(60.0)
    power.lose(11.0, LOST_MW, LOAD_MW - LOST_MW)
    assert power.baseline_mw(ARMED, 60.0) == 60.0 + 2 * LOST_MW
