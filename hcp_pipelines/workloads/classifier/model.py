"""The learnt classifier as plain arrays: a sum of trees a class, one temperature, evaluated in numpy alone.

Which specifications it sees in columns is `evidence`; learning is elsewhere. The package ships one, `shipped.npz`, whose SHA-256
stands in `shipped.sha256`: it is checked whenever it is read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.forecasting.model_file import ARRAYS, UNREADABLE, digest_of, packed, unpacked
from hcp_pipelines.forecasting.trees import LEAF, Floats, Matrix, Trees
from hcp_pipelines.workloads.classifier.evidence import NAMES

NAME: Final = "workload_class"
FORMAT: Final = 1
CLASSES: Final = tuple(WorkloadType)
SHIPPED: Final = Path(__file__).with_name("shipped.npz")
SHIPPED_DIGEST: Final = SHIPPED.with_suffix(".sha256")
_KINDS: Final = {f"{place}.{name}": kind for place in range(len(CLASSES)) for name, kind in ARRAYS.items()}


@dataclass(frozen=True)
class Classifier:
    """`trees` in the order of `CLASSES`; the sums over `temperature` are the logarithms of odds. `told`: scores, for people."""

    trees: tuple[Trees, ...]
    temperature: float
    told: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def __post_init__(self) -> None:
        """Refuse what can't answer.

        Raises:
            ModelError: another number of classes or columns, or a temperature that is none.
        """
        if len(self.trees) != len(CLASSES) or any(each.features != len(NAMES) for each in self.trees):
            raise ModelError(f"it has {len(self.trees)} classes: must be {len(CLASSES)}, each of {len(NAMES)} columns")
        if not 0 < self.temperature < math.inf:
            raise ModelError(f"its temperature is {self.temperature}: must be above 0")

    def sums(self, rows: Matrix) -> Floats:
        """What the trees say, [row, class]."""
        baselines: Floats = np.array([each.baseline for each in self.trees])
        return self._as_one.predict(rows) + baselines

    @cached_property
    def _as_one(self) -> Trees:
        """The trees of all classes with a value a class: one specification costs a third of asking each class's own."""
        first = np.cumsum([0, *(len(each.feature) for each in self.trees)])[:-1]

        def every(name: str) -> Any:
            return np.concatenate([getattr(each, name) for each in self.trees])

        def shifted(name: str) -> Any:
            nodes = [getattr(each, name) for each in self.trees]
            return np.concatenate([np.where(n == LEAF, LEAF, n + own) for n, own in zip(nodes, first, strict=True)])

        of_class = np.repeat(np.eye(len(self.trees)), [len(each.feature) for each in self.trees], axis=0)
        return Trees(
            len(NAMES), 0.0, shifted("first_node"), every("feature"), every("threshold"), every("missing_left"),
            shifted("left"), shifted("right"), every("value")[:, None] * of_class,
        )  # fmt: skip

    def probabilities(self, rows: Matrix) -> Floats:
        """By class, [row, class], each row adding up to 1."""
        return softmax(self.sums(rows), self.temperature)

    def to_bytes(self) -> bytes:
        """The model as it is kept; the same model gives the same bytes."""
        about = {
            "format": FORMAT, "name": NAME, "classes": CLASSES, "columns": NAMES, "temperature": self.temperature,
            "baselines": [each.baseline for each in self.trees], "told": self.told,
        }  # fmt: skip
        arrays = {
            f"{place}.{name}": getattr(trees, name).astype(kind)
            for place, trees in enumerate(self.trees)
            for name, kind in ARRAYS.items()
        }
        return packed(about, arrays)

    @classmethod
    def from_bytes(cls, kept: bytes, digest: str) -> Self:
        """The model of some bytes that have a SHA-256 digest.

        Raises:
            ModelError: other bytes, too many, not this format, or learnt from other columns.
        """
        about, arrays = unpacked(kept, digest, _KINDS)
        try:
            expected = (FORMAT, NAME, list(CLASSES), list(NAMES))
            if (about["format"], about["name"], about["classes"], about["columns"]) != expected:
                raise ModelError(
                    f"it is {about['name']} of format {about['format']}, or knows other classes or columns"
                )
            trees = tuple(
                Trees(len(NAMES), float(baseline), *(arrays[f"{place}.{name}"] for name in ARRAYS))
                for place, baseline in enumerate(about["baselines"])
            )
            return cls(trees, float(about["temperature"]), about["told"], digest)
        except UNREADABLE as error:
            raise ModelError(f"it can't be read as a classifier: {type(error).__name__}: {error}") from error


def softmax(sums: Floats, temperature: float) -> Floats:
    """Probabilities of log odds, [row, class].

    >>> softmax(np.array([[0.0, 0.0]]), 1.0).tolist()
    [[0.5, 0.5]]
    """
    scaled = sums / temperature
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def shipped() -> Classifier:
    """The classifier that comes with the package.

    Raises:
        ModelError: its file is not there, or is not the one that was shipped.
    """
    return read(SHIPPED)


def read(path: Path) -> Classifier:
    """The classifier of a file, held against the digest that lies beside it.

    Raises:
        ModelError: either file is not there, or the model can't be used.
    """
    try:
        kept, digest = path.read_bytes(), path.with_suffix(".sha256").read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}") from error
    try:
        return Classifier.from_bytes(kept, digest)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def write(path: Path, model: Classifier) -> str:
    """Keep a classifier and its digest beside it; the digest."""
    kept = model.to_bytes()
    digest = digest_of(kept)
    path.write_bytes(kept)
    path.with_suffix(".sha256").write_text(f"{digest}\n")
    return digest
