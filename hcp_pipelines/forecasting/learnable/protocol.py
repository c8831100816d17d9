"""What a model is to this platform: examples in, a fitted model out that tells quantiles, itself, and its plain bytes.

A target (capacity, demand, price …) makes examples; a model knows nothing of what they mean. Same examples, instant and seed: the
same bytes. No dagster, no database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.hours import HOUR_US, Floats, Ints, microseconds

Matrix = npt.NDArray[np.float32]

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
LAST = (
    "last"  # the feature that every target has: its last value that was known when it was asked, what `Naive` repeats
)


class TooShortError(ConfigError):
    """There is too little history to learn from."""


@dataclass(frozen=True)
class Examples:
    """`[n]` questions in the order in which they were asked, with what was known of each, and what it came to.

    Attributes:
        features: `[n, k]` float32; NaN: not known then.
        names: `[k]` of the features.
        target: `[n]` what it came to, in the target's unit; NaN: not known yet.
        entity: `[n]` index into `entities` (a facility's group, a class of GPUs, a settlement point).
        asked_us, wanted_us: `[n]` UTC microseconds: when it was asked, and the beginning of the interval asked about.
        known_us: `[n]` when `target` became known; nothing may be learnt from it before.
        naive: `[n]` what the seasonal naive forecast says, known when asked; NaN: it can't say anything.
        scale: `[n]` what the target is measured by (installed GPU-hours, say); 1 where there is no such thing.

    Raises:
        ConfigError: columns of different lengths, a name too few or twice, an infinite number, an entity that is none.
    """

    features: Matrix
    names: tuple[str, ...]
    target: Floats
    entity: Ints
    entities: tuple[str, ...]
    asked_us: Ints
    wanted_us: Ints
    known_us: Ints
    naive: Floats
    scale: Floats

    def __post_init__(self) -> None:
        """Refuse what would poison a model or a forecast; NaN alone means that something is not known."""
        n, k = len(self.target), len(self.names)
        by_row = {name: getattr(self, name) for name in _BY_ROW}
        if wrong := [name for name, column in by_row.items() if column.shape != (n,)]:
            raise ConfigError(f"{', '.join(wrong)}: not one value for each of {n} questions")
        if self.features.shape != (n, k) or len(set(self.names)) != k:
            raise ConfigError(f"features of shape {self.features.shape} for {n} questions and {k} names, each once")
        if n and not 0 <= self.entity.min() <= self.entity.max() < len(self.entities):
            raise ConfigError(f"entity {self.entity.max()}: there are {len(self.entities)}")
        if endless := [
            name for name, column in zip(self.names, self.features.T, strict=True) if np.isinf(column).any()
        ]:
            raise ConfigError(f"{', '.join(endless)}: infinite; what is not known is NaN")
        if endless := [name for name in ("target", "naive", "scale") if np.isinf(by_row[name]).any()]:
            raise ConfigError(f"{', '.join(endless)}: infinite; what is not known is NaN")

    def __len__(self) -> int:
        """How many questions."""
        return len(self.target)

    @property
    def ahead_h(self) -> Floats:
        """How far ahead each is asked: 1 for the hour that begins as it is asked."""
        ahead: Floats = (self.wanted_us - self.asked_us) / HOUR_US + 1
        return ahead

    def feature(self, name: str) -> Floats:
        """A feature by name.

        Raises:
            ConfigError: there is none of that name.
        """
        return self.matrix((name,))[:, 0].astype(np.float64)

    def matrix(self, names: Sequence[str]) -> Matrix:
        """`[n, names]` some of the features, in another order perhaps.

        Raises:
            ConfigError: some of them are missing: which.
        """
        place = {name: n for n, name in enumerate(self.names)}
        if missing := [name for name in names if name not in place]:
            raise ConfigError(f"features that the model reads are missing: {', '.join(missing)}")
        found: Matrix = self.features[:, [place[name] for name in names]]
        return found

    def only(self, kept: npt.NDArray[np.bool_] | Ints) -> "Examples":
        """Some of them."""
        return replace(
            self, features=self.features[kept], target=self.target[kept], entity=self.entity[kept], asked_us=self.asked_us[kept],
            wanted_us=self.wanted_us[kept], known_us=self.known_us[kept], naive=self.naive[kept], scale=self.scale[kept],
        )  # fmt: skip

    def known_by(self, until: datetime) -> "Examples":
        """Those whose outcome was known before an instant: what may be learnt from then."""
        return self.only((self.known_us <= microseconds(until)) & np.isfinite(self.target))


_BY_ROW = ("target", "entity", "asked_us", "wanted_us", "known_us", "naive", "scale")


class Fitted(Protocol):
    """A model that has learnt. `trained_until`: nothing that was known later is in it."""

    @property
    def name(self) -> str:
        """Of the model, as in `hcp model list`: `boosted_trees`."""
        ...

    @property
    def trained_until(self) -> datetime:
        """What it has learnt was known before this instant."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features that it reads, in order."""
        ...

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of its quantiles, rising."""
        ...

    def predict(self, examples: Examples) -> Floats:
        """`[n, level]`, in the target's unit, rising along the levels; NaN where nothing can be said. numpy alone.

        Raises:
            TrainedTooLateError: it was asked about an instant before `trained_until`.
            ConfigError: a feature that it reads is missing.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """Parameters, what it learnt from, what its features matter: plain values, for people and the registry."""
        ...

    def to_bytes(self) -> bytes:
        """Itself as plain arrays (`model_file.packed`): read again by `learnable.files.read`, which runs no code."""
        ...


class Model(Protocol):
    """How something is learnt. An instance has its parameters; scikit-learn is imported as it fits, not before."""

    @property
    def name(self) -> str:
        """Its name: of a version, of a row of scores."""
        ...

    def fit(self, examples: Examples, until: datetime, seed: int = 0) -> Fitted:
        """Learn from what was known before `until`; the same examples and seed give the same model.

        Raises:
            TooShortError: there is too little to learn from.
        """
        ...


class Target(Protocol):
    """What is forecast, and which models compete for it. Makes its examples from tables; reads nothing itself."""

    @property
    def name(self) -> str:
        """`capacity`, `demand`, `price`, `failure_risk`, `utilization`."""
        ...

    @property
    def unit(self) -> str:
        """Of the target: `GPU-hours`, `GPUs`, `$/MWh`."""
        ...

    @property
    def tables(self) -> Sequence[str]:
        """The lake's tables that `examples` wants, each with its point-in-time column `known_at`."""
        ...

    @property
    def models(self) -> Sequence[Model]:
        """Baselines first, then what should beat them; the last one is what ships, as docs/ml-guide.md says."""
        ...

    def examples(
        self, tables: Mapping[str, Any], window: tuple[datetime, datetime], groups: Sequence[str] = ()
    ) -> Examples:
        """The questions asked in a window, from tables as polars frames; of some entities only, if named.

        Raises:
            ConfigError: a table has no rows of the window, or an entity is unknown: which, and what there is.
        """
        ...
