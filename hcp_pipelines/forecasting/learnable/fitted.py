"""Learnt quantiles: trees, or none, over an anchor, moved by what they missed on days that were held back. numpy alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self

import numpy as np

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.forecasting.hindsight import refuse_hindsight
from hcp_pipelines.forecasting.hours import Floats, Ints, instant
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.lessons import HORIZONS_H, horizon_of
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.model_file import ARRAYS, UNREADABLE, packed, unpacked
from hcp_pipelines.forecasting.trees import Trees

KIND, FORMAT = "quantiles", 1
NUMBERS = "numbers"  # of the file: the shifts, one horizon after the other


@dataclass(frozen=True)
class FittedQuantiles:
    """A `Fitted`: the anchor, what the trees say of the distance to it, and what is added to each level.

    Attributes:
        trees: one of as many values as there are levels, or one a level; none: the shifts say all.
        tree_columns: the features that they look at.
        shifts: `[horizon, level]` on the scale that is learnt; with `parted_by` those of each part, one after the other.
        told_of: parameters and what it learnt from, for people.
        parted_by: a feature; what it is above 0 of is calibrated apart from the rest.
    """

    name: str
    trained_until: datetime
    levels: tuple[float, ...]
    framing: Framing
    shifts: Floats
    trees: tuple[Trees, ...] = ()
    tree_columns: tuple[str, ...] = ()
    told_of: Mapping[str, Any] = field(default_factory=dict)
    parted_by: str = ""

    def __post_init__(self) -> None:
        """Refuse what fits not together.

        Raises:
            ModelError: quantiles, trees and shifts of different numbers, or no numbers.
        """
        shape = (parts_of(self.parted_by) * len(HORIZONS_H), len(self.levels))
        if self.shifts.shape != shape or not np.isfinite(self.shifts).all():
            raise ModelError(f"shifts of shape {self.shifts.shape}: must be {shape}, all numbers")
        if (
            not self.levels
            or not all(0 < level < 1 for level in self.levels)
            or list(self.levels) != sorted(self.levels)
        ):
            raise ModelError(f"levels {self.levels}: must rise between 0 and 1")
        values = sum(_width(each) for each in self.trees)
        if self.trees and values != len(self.levels):
            raise ModelError(f"trees of {values} values for {len(self.levels)} levels")
        if any(each.features != len(self.tree_columns) for each in self.trees):
            raise ModelError(f"trees of other features than the {len(self.tree_columns)} that are named")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features that it reads."""
        parting = (self.parted_by,) if self.parted_by else ()
        return tuple(dict.fromkeys((*self.tree_columns, *self.framing.feature, *parting)))

    def predict(self, examples: Examples) -> Floats:
        """As `Fitted`."""
        refuse_early(self.name, self.trained_until, examples)
        return self.told(examples)

    def told(self, examples: Examples) -> Floats:
        """`[n, level]` in the target's unit, whenever it was asked: of its own lessons too."""
        learnt = found_of(self.trees, self.tree_columns, examples, len(self.levels))
        return np.sort(self.framing.told(examples, learnt + self.shifts[group_of(examples, self.parted_by)]), axis=1)

    def describe(self) -> Mapping[str, Any]:
        """As `Fitted`."""
        about = {"name": self.name, "trained_until": self.trained_until.isoformat(), "levels": list(self.levels)}
        return about | {"columns": list(self.columns)} | dict(self.told_of)

    def to_bytes(self) -> bytes:
        """As `Fitted`."""
        parts = [
            {
                "trees": len(each.first_node),
                "nodes": len(each.feature),
                "values": _width(each),
                "baseline": each.baseline,
            }
            for each in self.trees
        ]
        about = {
            "kind": KIND, "format": FORMAT, "name": self.name, "trained_until": self.trained_until.isoformat(),
            "levels": self.levels, "framing": asdict(self.framing), "horizons_h": HORIZONS_H, "columns": self.tree_columns,
            "parts": parts, "told": self.told_of, "parted_by": self.parted_by,
        }  # fmt: skip
        arrays = {
            name: np.concatenate(
                [np.empty(0, kind), *(getattr(each, name).ravel().astype(kind) for each in self.trees)]
            )
            for name, kind in ARRAYS.items()
        }
        return packed(about, arrays | {NUMBERS: self.shifts.ravel().astype("<f8")})

    @classmethod
    def from_bytes(cls, kept: bytes, digest: str) -> Self:
        """The model of some bytes that have a SHA-256 digest.

        Raises:
            ModelError: other bytes than were kept, or not this format.
        """
        about, arrays = unpacked(kept, digest, {**ARRAYS, NUMBERS: "<f8"})
        try:
            if about["format"] != FORMAT or tuple(about["horizons_h"]) != HORIZONS_H:
                raise ModelError(
                    f"format {about['format']} with horizons {about['horizons_h']}: this version reads neither"
                )
            levels, columns = tuple(about["levels"]), tuple(about["columns"])
            return cls(
                about["name"], datetime.fromisoformat(about["trained_until"]), levels, Framing(**about["framing"]),
                arrays[NUMBERS].reshape(-1, len(levels)), _trees(about["parts"], arrays, len(columns)), columns, about["told"],
                about.get("parted_by", ""),
            )  # fmt: skip
        except UNREADABLE as error:
            raise ModelError(f"it can't be read as a model: {type(error).__name__}: {error}") from error


def parts_of(parted_by: str) -> int:
    """How many parts are calibrated apart."""
    return 2 if parted_by else 1


def group_of(examples: Examples, parted_by: str) -> Ints:
    """`[n]` the row of the shifts of each: its horizon, of its part."""
    horizon = horizon_of(examples)
    return horizon + len(HORIZONS_H) * (examples.feature(parted_by) > 0) if parted_by else horizon


def refuse_early(name: str, trained_until: datetime, examples: Examples) -> None:
    """Raise TrainedTooLateError where an example was asked before a model's training ended."""
    if len(examples):
        refuse_hindsight(f"the model {name}", trained_until, instant(int(examples.asked_us.min())))


def found_of(trees: tuple[Trees, ...], columns: tuple[str, ...], examples: Examples, levels: int) -> Floats:
    """`[n, level]` what trees say, rising along the levels; 0 where there are none."""
    if not trees:
        return np.zeros((len(examples), levels))
    rows = examples.matrix(columns)
    return np.sort(np.column_stack([each.predict(rows) for each in trees]), axis=1)


def _width(trees: Trees) -> int:
    """Values that it predicts at once."""
    return 1 if trees.value.ndim == 1 else int(trees.value.shape[1])


def _trees(parts: list[dict[str, Any]], arrays: Mapping[str, np.ndarray], features: int) -> tuple[Trees, ...]:
    """Trees of a file's arrays, one part after the other."""
    found, tree, node, value = [], 0, 0, 0
    for part in parts:
        trees, nodes, width = int(part["trees"]), int(part["nodes"]), int(part["values"])
        if min(trees, nodes, width) < 1:
            raise ModelError(f"a part of {trees} trees, {nodes} nodes and {width} values")
        own = {name: arrays[name][node : node + nodes] for name in ARRAYS}
        own["first_node"] = arrays["first_node"][tree : tree + trees]
        own["value"] = arrays["value"][value : value + nodes * width]
        if width > 1:
            own["value"] = own["value"].reshape(nodes, width)
        found.append(Trees(features, float(part["baseline"]), *(own[name] for name in ARRAYS)))
        tree, node, value = tree + trees, node + nodes, value + nodes * width
    return tuple(found)
