"""A grid's limit as plans reckon it: meter and devices are read apart; only a load that stands tells what lies between."""

import pytest

from hcp_pipelines.allocator.obligation_table import Rows
from hcp_pipelines.allocator.obligations import ObligationBook
from hcp_pipelines.policy.obligations import Obligation, Status
from tests.support import fleet

SOLD_MW, BASELINE_MW, NOW_S = 2.0, 10.0, 1.75e9


@pytest.fixture
def cap_after():
    """The limit after looks at (meter, devices), MW."""
    book, at_s = ObligationBook(fleet.site()), [NOW_S]
    deployed = Obligation(
        1, "west-1", "DR-1", Status.DEPLOYED, SOLD_MW, NOW_S, NOW_S + 7200, 480.0, 3600.0, 3600.0,
        deployed_at_s=NOW_S, baseline_mw=BASELINE_MW,
    )  # fmt: skip
    book.take(Rows((deployed,), {}))

    def look(*looks):
        for meter_mw, devices_mw in looks:
            at_s[0] += 0.5
            book.advance(at_s[0], meter_mw, devices_mw)
        (limit,) = book.directives(at_s[0])
        return limit.cap_mw

    return look


def test_a_load_on_its_way_is_no_measure_of_the_meter(cap_after):
    standing_mw = cap_after((10.0, 10.0))
    assert standing_mw == pytest.approx(BASELINE_MW - 1.02 * SOLD_MW)
    down = (
        (10.0, 8.0),
        (8.0, 8.0),
        (7.0, 5.0),
        (5.0, 5.0),
    )  # the devices are read first, the meter half a second later
    up = ((5.0, 7.5), (7.5, 7.5))
    assert [cap_after(one) for one in (*down, *up)] == [standing_mw] * 6


def test_a_load_that_stands_tells_what_the_meter_has_beyond_the_devices(cap_after):
    cap_after((10.0, 10.0))
    assert cap_after((8.0, 7.6), (8.0, 7.6), (8.03, 7.62)) == pytest.approx(
        0.95 * BASELINE_MW - 1.02 * SOLD_MW, abs=0.02
    )
