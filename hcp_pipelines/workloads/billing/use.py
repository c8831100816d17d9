"""Which devices a part of a run had, and what they told of their power in it: rows for `lines`; energy by group beside that."""

from typing import Any

import numpy as np
import polars as pl

from hcp_pipelines.domain.columns import INSTANT
from hcp_pipelines.workloads.billing.lines import USED

_F, _S, _P = pl.Float64, pl.String, pl.UInt32
DEVICES: dict[str, Any] = {  # that a piece of work had under an epoch, slots being the facility's
    "workload_id": _S, "lease_epoch": pl.Int64, "facility_id": _S, "group_id": _S, "slots": pl.List(pl.Int32),
}  # fmt: skip
PLACE: dict[str, Any] = {
    "part": _P,
    "facility_id": _S,
    "group_id": _S,
    "devices": _F,
    "gpus": _F,
    "slots": pl.List(pl.Int32),
}
HELD: dict[str, Any] = {"part": _P, "slot": pl.Int32, "from_at": INSTANT, "until_at": INSTANT}
TOLD: dict[str, Any] = {  # devices that told their power in a part, and their mean power together
    "start_at": INSTANT, "facility_id": _S, "group_id": _S, "part": _P, "told": _F, "kw": _F,
}  # fmt: skip
FREE: dict[str, Any] = {"start_at": INSTANT, "facility_id": _S, "group_id": _S, "free_mwh": _F}
GROUP: dict[str, Any] = {"start_at": INSTANT, "facility_id": _S, "group_id": _S, "group_mwh": _F}
ENERGY: dict[str, Any] = GROUP | {"work_mwh": _F, "free_mwh": _F}
_WORK = ["workload_id", "lease_epoch"]


def slots_of(first_slot: int, packed: bytes) -> list[int]:
    """The facility's slots of a desired row: numbers within the group, four bytes each, little-endian.

    >>> slots_of(100, bytes([0, 0, 0, 0, 7, 0, 0, 0]))
    [100, 107]
    """
    found: list[int] = (np.frombuffer(packed, dtype="<u4").astype(np.int64) + first_slot).tolist()
    return found


def places_of(parts: pl.DataFrame, devices: pl.DataFrame) -> pl.DataFrame:
    """Where each part of `parts_of` ran (PLACE), a row a group, and how many of its GPUs are charged there.

    Work of which nobody said which devices it had is in one row, at the facility of its binding, in no group.
    """
    named = devices.select(*DEVICES).rename({"facility_id": "of_devices"})
    rows = parts.with_row_index("part").join(named, on=_WORK, how="left", maintain_order="left")
    count = pl.coalesce(pl.col("slots").list.len(), "gpu_count").cast(pl.Float64)
    placed = rows.with_columns(
        facility_id=pl.coalesce("of_devices", "facility_id"), group_id=pl.col("group_id").fill_null(""), devices=count
    )
    share = pl.col("gpu_count") * pl.col("devices") / pl.col("devices").sum().over("part")
    return placed.with_columns(gpus=share).select(pl.col(name).cast(kind) for name, kind in PLACE.items())


def held_at(parts: pl.DataFrame, places: pl.DataFrame, facility_id: str) -> pl.DataFrame:
    """From when to when each slot of a facility had work (HELD)."""
    spans = parts.with_row_index("part").select("part", "from_at", "until_at")
    slots = places.filter(facility_id=facility_id).drop_nulls("slots").explode("slots").rename({"slots": "slot"})
    joined = slots.select("part", "slot").join(spans, on="part", maintain_order="left")
    return joined.select(pl.col(name).cast(kind) for name, kind in HELD.items()).sort("slot", "from_at")


def used_of(parts: pl.DataFrame, slices: pl.DataFrame, places: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """What work had in each interval (USED), with what its devices told of it (TOLD)."""
    about = parts.with_row_index("part").drop("facility_id")
    rows = (
        slices.join(about, on="part", maintain_order="left")
        .join(places.drop("slots"), on="part", maintain_order="left")
        .join(told, on=["start_at", "facility_id", "group_id", "part"], how="left", maintain_order="left")
    )
    kwh = (pl.col("kw") * pl.col("hours")).fill_null(0.0)
    known = rows.with_columns(told=pl.col("told").fill_null(0.0), told_kwh=kwh)
    return known.select(pl.col(name).cast(kind) for name, kind in USED.items())


def energy_of(lines: pl.DataFrame, free: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
    """Energy of devices by interval and group (ENERGY): what work used, what the rest drew, and what the group's own roll-up has.

    Args:
        lines: as of `lines_of`.
        free: as each device told it (FREE).
        groups: of groups' minutes (GROUP).
    """
    key = ["start_at", "facility_id", "group_id"]
    work = lines.group_by(key).agg(work_mwh=pl.col("device_mwh").sum())
    both = groups.join(free, on=key, how="left").join(work, on=key, how="left")
    filled = both.with_columns(pl.col("work_mwh", "free_mwh").fill_null(0.0))
    return filled.select(pl.col(name).cast(kind) for name, kind in ENERGY.items()).sort(key)
