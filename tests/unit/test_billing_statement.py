"""A statement's cents add up: items to the total, the total to what was billed less what is owed."""

from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.workloads.billing.statement import CENT, Credit, Used, statement_of

DAY = date(2025, 3, 9)
usd = st.decimals(min_value=0, max_value=100_000, places=6)
uses = st.builds(
    Used,
    facility_id=st.sampled_from(["hou-1", "wtx-1"]),
    type=st.just("model_training"),
    rate_basis=st.just("agreed"),
    gpu_hours=st.floats(0, 1e6),
    gpu_usd=usd,
    energy_mwh=st.floats(0, 1e3),
    energy_usd=st.one_of(st.just(Decimal(0)), usd),
)
credits_ = st.builds(Credit, workload_id=st.uuids().map(str), day=st.just(DAY), fraction=st.floats(0, 1), usd=usd)


def used(gpu_usd, energy_usd="0", facility="hou-1", kind="model_training"):
    return Used(facility, kind, "agreed", 10.0, Decimal(gpu_usd), 2.5, Decimal(energy_usd))


def test_a_statement_by_hand():
    found = statement_of([used("12.345678", "1.004999"), used("7.654322", "0.5", kind="ai_inference_batch")],
                         [Credit("w1", DAY, 0.25, Decimal("2.000001"))], 3)  # fmt: skip
    assert [(item.kind, str(item.amount_usd)) for item in found.items] == [
        ("gpu", "12.35"), ("gpu", "7.65"), ("energy", "1.50"), ("credit", "-2.00"),
    ]  # fmt: skip
    assert (found.billed_usd, found.credits_usd, found.total_usd) == (
        Decimal("21.50"),
        Decimal("-2.00"),
        Decimal("19.50"),
    )
    assert found.lines_without_price == 3
    assert "25%" in found.items[-1].text
    assert found.items[2].quantity == pytest.approx(5.0)


@given(st.lists(uses, max_size=30), st.lists(credits_, max_size=5))
def test_items_are_within_a_cent_of_what_they_stand_for_and_add_up_to_it(some, owed):
    found = statement_of(some, owed)
    assert sum((item.amount_usd for item in found.items), Decimal(0)) == found.total_usd
    exact = sum((one.gpu_usd + one.energy_usd for one in some), Decimal(0))
    assert found.billed_usd == exact.quantize(CENT, ROUND_HALF_EVEN)
    assert -found.credits_usd == sum((one.usd for one in owed), Decimal(0)).quantize(CENT, ROUND_HALF_EVEN)
    assert all(item.amount_usd == item.amount_usd.quantize(CENT) for item in found.items)
    told = [one.gpu_usd for one in some if one.gpu_hours or one.gpu_usd]
    shown = [item.amount_usd for item in found.items if item.kind == "gpu"]
    assert all(abs(amount - own) <= CENT for amount, own in zip(shown, told, strict=True))


def test_nothing_is_nothing():
    found = statement_of([], [])
    assert (found.items, found.total_usd) == ((), Decimal("0.00"))
