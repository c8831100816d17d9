"""The meter in samples: often enough, and never so that the devices' samples are refused for it."""

import math

import pytest

from hcp_pipelines.edge.telemetry.metering import EVERY_US, Metering
from hcp_pipelines.wire.telemetry import METER_KW_MAX, Meter

AT_US = 1_735_732_800_000_000


def test_a_reading_each_ten_seconds_and_a_register_as_soon_as_there_is_one():
    metering = Metering("one")
    summed = Meter(AT_US, 80.0)
    assert metering.next(summed) == summed
    assert metering.next(Meter(AT_US + EVERY_US - 1, 81.0)) is None
    metered = Meter(AT_US + 1, 80.0, 5.0)
    assert metering.next(metered) == metered
    assert metering.next(Meter(AT_US + 2, 80.0, 5.0)) is None
    later = Meter(AT_US + 1 + EVERY_US, 80.0, 5.1)
    assert metering.next(later) == later


@pytest.mark.parametrize(
    "read",
    [
        Meter(AT_US, -0.4, 5.0), Meter(AT_US, math.nan, 5.0), Meter(AT_US, math.inf, 5.0), Meter(AT_US, 2 * METER_KW_MAX, 5.0),
        Meter(AT_US, 80.0, math.nan), Meter(AT_US, 80.0, -1.0), Meter(0, 80.0, 5.0), Meter(2**62, 80.0, 5.0),
    ],
)  # fmt: skip
def test_what_makes_no_sense_costs_the_reading_alone(read):
    metering = Metering("one")
    assert metering.next(read) is None
    well = Meter(AT_US, 80.0, 5.0)
    assert metering.next(well) == well


def test_a_meter_whose_clock_ran_ahead_is_told_again_once_it_is_put_right():
    metering = Metering("one")
    assert metering.next(Meter(AT_US + 10**15, 80.0, 5.0)) is not None
    right = Meter(AT_US, 80.0, 5.0)
    assert metering.next(right) == right
