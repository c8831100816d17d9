"""A customer's monthly statement: what the bills' lines and the credits come to, in whole cents that add up. No tables, no files.

Taxes, invoices' numbers and dunning are not its business: a statement says what was used and what it costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import groupby

CENT = Decimal("0.01")


@dataclass(frozen=True)
class Used:
    """What a class of work used at a facility at one kind of rate, exact dollars; `energy_usd`: 0 where the rate has it in it."""

    facility_id: str
    type: str
    rate_basis: str
    gpu_hours: float
    gpu_usd: Decimal
    energy_mwh: float
    energy_usd: Decimal


@dataclass(frozen=True)
class Credit:
    """What is owed for a missed deadline."""

    workload_id: str
    day: date
    fraction: float
    usd: Decimal


@dataclass(frozen=True)
class Item:
    """A line for people: `amount_usd` in whole cents."""

    kind: str  # gpu, energy or credit
    text: str
    quantity: float | None
    unit: str
    amount_usd: Decimal


@dataclass(frozen=True)
class Statement:
    """Items that add up to `total_usd`, which is what bills and credits come to; lines without a price are in neither."""

    items: tuple[Item, ...]
    billed_usd: Decimal
    credits_usd: Decimal
    total_usd: Decimal
    lines_without_price: int


def statement_of(used: Sequence[Used], credits_: Sequence[Credit], lines_without_price: int = 0) -> Statement:
    """The statement: totals rounded once, to even, and items in cents whose sum is theirs.

    >>> third = Decimal("0.333333")
    >>> found = statement_of([Used("hou-1", t, "agreed", 1.0, third, 0.0, Decimal(0)) for t in ("a", "b", "c")], [])
    >>> [str(item.amount_usd) for item in found.items], str(found.total_usd)
    (['0.34', '0.33', '0.33'], '1.00')
    """
    billed = [*_gpu_items(used), *_energy_items(used)]
    owed = [
        Item("credit", f"deadline of {one.day} missed by {one.workload_id}, {one.fraction:.0%} of its price", None, "", -one.usd)
        for one in credits_
        if one.usd
    ]  # fmt: skip
    items = (*_in_cents(billed), *_in_cents(owed))
    billed_usd, credits_usd = (_cents(sum((i.amount_usd for i in of), Decimal(0))) for of in (billed, owed))
    return Statement(items, billed_usd, credits_usd, billed_usd + credits_usd, lines_without_price)


def _gpu_items(used: Sequence[Used]) -> list[Item]:
    return [
        Item("gpu", f"{one.facility_id}: {one.type}, {one.rate_basis} rate", one.gpu_hours, "GPU-hours", one.gpu_usd)
        for one in used
        if one.gpu_hours or one.gpu_usd
    ]  # fmt: skip


def _energy_items(used: Sequence[Used]) -> list[Item]:
    """Energy by facility, where it is charged beside the rate."""
    charged = sorted((one for one in used if one.energy_usd), key=lambda one: one.facility_id)
    items = []
    for facility_id, of_it in groupby(charged, key=lambda one: one.facility_id):
        rows = list(of_it)
        usd = sum((row.energy_usd for row in rows), Decimal(0))
        items.append(Item("energy", f"{facility_id}: energy", sum(row.energy_mwh for row in rows), "MWh", usd))
    return items


def _in_cents(items: Sequence[Item]) -> list[Item]:
    """The items in cents that sum to the rounded sum: what is missing goes, a cent each, to those that were cut most."""
    floors = [(item.amount_usd // CENT) * CENT for item in items]
    floors = [low - CENT if low > item.amount_usd else low for low, item in zip(floors, items, strict=True)]
    left = _cents(sum((item.amount_usd for item in items), Decimal(0))) - sum(floors, Decimal(0))
    cut = sorted(range(len(items)), key=lambda n: floors[n] - items[n].amount_usd)
    for n in cut[: int(left / CENT)]:
        floors[n] += CENT
    return [
        Item(item.kind, item.text, item.quantity, item.unit, amount.quantize(CENT))
        for item, amount in zip(items, floors, strict=True)
    ]


def _cents(usd: Decimal) -> Decimal:
    return usd.quantize(CENT, ROUND_HALF_EVEN)
