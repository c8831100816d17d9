"""The terms that bills go by, as they were from an instant on: a day billed again goes by those of its own day.

They are the facilities' (settlement point, PUE, adders, fraction of the market's rate, model's power), the share of a missed
deadline's price that each tier is owed, and whether energy is charged beside the rate. A day goes by what held as it began.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from hcp_pipelines.workloads.billing.lines import FRACTION, OWN_RATE, POWER, TERMS, Places

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # of the first terms: days before them were billed by nothing else


@dataclass(frozen=True)
class Terms:
    """Of one time."""

    places: Places
    credit_fractions: Mapping[str, float]
    is_energy_charged: bool

    def document(self) -> dict[str, Any]:
        """As it is kept, without the credits' shares, which have a column."""
        tables = {name: getattr(self.places, name).rows() for name in _SCHEMAS}
        return tables | {"is_energy_charged": self.is_energy_charged}

    @property
    def digest(self) -> str:
        """The same of the same terms."""
        told = [self.document(), dict(sorted(self.credit_fractions.items()))]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @classmethod
    def of(cls, document: Mapping[str, Any], credit_fractions: Mapping[str, float]) -> "Terms":
        """As they were kept."""
        frames = {name: pl.DataFrame(document[name], schema=schema, orient="row") for name, schema in _SCHEMAS.items()}
        return cls(Places(**frames), credit_fractions, bool(document["is_energy_charged"]))


_SCHEMAS: dict[str, dict[str, Any]] = {"power": POWER, "terms": TERMS, "fractions": FRACTION}
_KEYS = {"power": ("facility_id", "group_id", "type"), "terms": ("facility_id",), "fractions": ("facility_id", "type")}


@dataclass(frozen=True)
class Dated:
    """Terms with the instants (world time) from which they hold and at which they were noted."""

    id: int
    valid_from: datetime
    noted_at: datetime
    terms: Terms


@dataclass(frozen=True)
class OwnRate:
    """What a customer pays a GPU-hour of a type from an instant on, whatever the market asks; None: the market's again."""

    id: int
    customer_id: str
    gpu_type: str
    usd_per_gpu_hour: float | None
    valid_from: datetime
    noted_at: datetime


def in_force(known: Iterable[Dated], at: datetime) -> Dated | None:
    """The terms at an instant: the newest that hold by then, of those that hold from one instant the one noted last."""
    return max((one for one in known if one.valid_from <= at), key=lambda one: (one.valid_from, one.id), default=None)


def places_on(known: Sequence[Dated], day: datetime) -> Places:
    """The facilities as of the terms that a day goes by; one that has come since, or a group, as it was noted first.

    Raises:
        ValueError: no terms hold by then.
    """
    held = in_force(known, day)
    if held is None:
        raise ValueError(f"no terms hold on {day:%Y-%m-%d}: the first ones hold from ever")
    later = sorted((one for one in known if one.valid_from > day), key=lambda one: (one.valid_from, one.id))
    frames = {name: getattr(held.terms.places, name) for name in _SCHEMAS}
    for one in later:
        for name, keys in _KEYS.items():
            frames[name] = pl.concat(
                [frames[name], getattr(one.terms.places, name).join(frames[name], on=keys, how="anti")]
            )
    return Places(**frames)


def own_rates(known: Sequence[OwnRate], at: datetime) -> pl.DataFrame:
    """Customers' own rates at an instant (OWN_RATE)."""
    newest = dict[tuple[str, str], OwnRate]()
    for one in sorted(known, key=lambda one: (one.valid_from, one.id)):
        if one.valid_from <= at:
            newest[one.customer_id, one.gpu_type] = one
    rows = [(*key, one.usd_per_gpu_hour) for key, one in newest.items() if one.usd_per_gpu_hour is not None]
    return pl.DataFrame(rows, schema=OWN_RATE, orient="row")


def changed_since(terms: Sequence[Dated], rates: Sequence[OwnRate], day: datetime, billed_at: datetime) -> bool:
    """Whether what a day goes by was noted after it had been billed: terms that were put right from an earlier day on."""
    own = in_force(terms, day)
    late = own is not None and own.noted_at > billed_at and own.valid_from > BEGINNING
    return late or any(one.valid_from <= day and one.noted_at > billed_at for one in rates)
