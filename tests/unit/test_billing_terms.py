"""Terms by date: which hold on a day, what was put right later, and that they are kept as they were."""

from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hcp_pipelines.workloads.billing.lines import FRACTION, POWER, Places
from hcp_pipelines.workloads.billing.lines import TERMS as TERM_COLUMNS
from hcp_pipelines.workloads.billing.terms import (
    BEGINNING,
    Dated,
    OwnRate,
    Terms,
    changed_since,
    in_force,
    own_rates,
    places_on,
)
from tests.support.billed import AT
from tests.unit.test_billing_lines import PLACES

DAY = timedelta(days=1)
TERMS = Terms(PLACES, {"pro": 0.1, "enterprise": 0.25}, is_energy_charged=False)


def dated(number, since, noted=None):
    return Dated(number, since, since if noted is None else noted, TERMS)


def test_terms_are_kept_as_they_were_and_known_again():
    again = Terms.of(TERMS.document(), TERMS.credit_fractions)
    for name in ("power", "terms", "fractions"):
        assert_frame_equal(getattr(again.places, name), getattr(PLACES, name))
    assert again.digest == TERMS.digest
    assert Terms(PLACES, {"pro": 0.2}, is_energy_charged=False).digest != TERMS.digest
    assert Terms(PLACES, TERMS.credit_fractions, is_energy_charged=True).digest != TERMS.digest


def test_a_day_goes_by_the_newest_terms_that_held_as_it_began():
    first, second = dated(1, BEGINNING), dated(2, AT + DAY / 2)
    assert in_force([first, second], AT) is first
    assert in_force([first, second], AT + DAY) is second
    right = dated(3, AT, noted=AT + 5 * DAY)  # put right from an earlier day on, up to where others hold
    assert [in_force([first, second, right], AT + n * DAY).id for n in (-1, 0, 1)] == [1, 3, 2]
    assert in_force([first, dated(4, BEGINNING)], AT).id == 4
    assert in_force([], AT) is None


def test_a_facility_that_came_after_its_day_had_begun_goes_by_its_first_terms():
    pues = {"hou-1": 9.0, "new-1": 1.5}
    new = Places(
        pl.DataFrame(
            [(name, "a", "H100", "model_training", 4.0, 3.0) for name in ("hou-1", "new-1")]
            + [("hou-1", "c", "H100", "model_training", 4.0, 5.0)],
            schema=POWER, orient="row",
        ),
        pl.DataFrame([(name, "HB_WEST", pue, 10.0) for name, pue in pues.items()], schema=TERM_COLUMNS, orient="row"),
        pl.DataFrame([(name, "model_training", 0.8) for name in pues], schema=FRACTION, orient="row"),
    )  # fmt: skip
    later = Dated(2, AT + DAY / 2, AT + DAY / 2, Terms(new, {}, is_energy_charged=True))
    newest = Dated(3, AT + DAY, AT + DAY, Terms(PLACES, {}, is_energy_charged=True))
    found = places_on([dated(1, BEGINNING), later, newest], AT)
    assert dict(found.terms.select("facility_id", "pue").rows()) == {"hou-1": 1.5, "new-1": 1.5}
    assert dict(found.fractions.select("facility_id", "rate_fraction").rows()) == {"hou-1": 0.5, "new-1": 0.8}
    kw = {
        (facility, group): kw
        for facility, group, kw in found.power.select("facility_id", "group_id", "model_kw").rows()
    }
    assert kw == {("hou-1", "a"): 1.0, ("hou-1", "b"): 2.0, ("hou-1", "c"): 5.0, ("new-1", "a"): 3.0}
    with pytest.raises(ValueError, match="no terms hold"):
        places_on([later], AT)


def test_only_what_was_noted_after_a_day_was_billed_has_it_billed_again():
    first, next_day = dated(1, BEGINNING, noted=AT + 9 * DAY), dated(2, AT + DAY)
    billed_at = AT + 2 * DAY
    assert not changed_since([first, next_day], [], AT, billed_at), "the first terms are what it was billed by"
    assert not changed_since([first, next_day], [], AT + DAY, billed_at)
    right = dated(3, AT, noted=AT + 5 * DAY)
    assert changed_since([first, right, next_day], [], AT, billed_at)
    assert not changed_since([first, right, next_day], [], AT + DAY, billed_at), "others hold by then"
    assert not changed_since([first, right], [], AT, AT + 6 * DAY)
    rate = OwnRate(1, "c1", "H100", 2.0, AT, AT + 3 * DAY)
    assert changed_since([first], [rate], AT, billed_at)
    assert not changed_since([first], [rate], AT - DAY, billed_at)


def test_customers_own_rates_begin_and_end():
    known = [
        OwnRate(1, "c1", "H100", 2.0, AT, AT), OwnRate(2, "c1", "H100", 1.5, AT + DAY, AT), OwnRate(3, "c2", "H100", 3.0, AT, AT),
        OwnRate(4, "c2", "H100", None, AT + DAY, AT), OwnRate(5, "c1", "A100", 1.0, AT, AT),
    ]  # fmt: skip
    assert own_rates(known, AT - DAY).is_empty()
    assert sorted(own_rates(known, AT).rows()) == [("c1", "A100", 1.0), ("c1", "H100", 2.0), ("c2", "H100", 3.0)]
    assert sorted(own_rates(known, AT + DAY).rows()) == [("c1", "A100", 1.0), ("c1", "H100", 1.5)]
    assert own_rates([], AT).schema["own_usd_per_gpu_hour"] == pl.Float64
