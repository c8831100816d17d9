"""A blend: the mean of what several models say, its middle drawn towards a feature, calibrated as a whole on the days held back.

Models that put a target differently err differently, and their mean errs less than each; so with a linear forecast among the
features. That is of the middle and knows nothing of the ends: the further out a level, the less it is drawn. Quantiles are
averaged level by level; the median of the whole stays where it is. Answers with numpy alone.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Self

import numpy as np

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.forecasting.conformal import conformal_shifts
from hcp_pipelines.forecasting.hours import Floats
from hcp_pipelines.forecasting.learnable.fitted import FittedQuantiles, refuse_early
from hcp_pipelines.forecasting.learnable.framing import Framing
from hcp_pipelines.forecasting.learnable.lessons import HORIZONS_H, Learning, horizon_of, lesson
from hcp_pipelines.forecasting.learnable.models import MOST_TOLD, BoostedTrees, told_of
from hcp_pipelines.forecasting.learnable.protocol import Examples
from hcp_pipelines.forecasting.model_file import UNREADABLE, digest_of, packed, unpacked

KIND, FORMAT = "blend", 1
NUMBERS, MEMBER = "numbers", "member_"
MEDIAN = 0.5


@dataclass(frozen=True)
class Blend:
    """A mean of models, and by `share` of a feature.

    Attributes:
        members: each learns by itself, from the same days.
        toward: a feature in the target's unit; where it is not known the members stand alone.
        share: of it in the median, 0 leaves it out; of it in other levels less, the further out they lie.
        framing: on whose scale the whole is calibrated.
        learning: as the members': what they hold back calibrates.
    """

    members: tuple[BoostedTrees, ...]
    toward: str
    share: float
    framing: Framing = field(default_factory=Framing)
    learning: Learning = field(default_factory=Learning)
    name: str = "blend"

    def fit(self, examples: Examples, until: datetime, seed: int = 0) -> "FittedBlend":
        """As `Model`."""
        members = tuple(each.fit(examples, until, seed) for each in self.members)
        found = lesson(examples, until, self.framing, self.learning, seed)
        held = found.examples.only(found.is_held)
        levels, nothing = members[0].levels, np.zeros((len(HORIZONS_H), len(members[0].levels)))
        whole = FittedBlend(self.name, until, members, self.toward, self.share, self.framing, nothing, is_tapered=True)
        shifts = conformal_shifts(
            self.framing.put(held, whole.mean(held)), found.learnt[found.is_held], found.horizon[found.is_held],
            levels, len(HORIZONS_H),
        )  # fmt: skip
        shifts[:, levels.index(MEDIAN)] = 0.0  # intervals need theirs; what moves a median over a few weeks is noise
        told = {"parameters": asdict(self), "importance": _importance(members)} | told_of(found, found.is_held)
        there = np.isfinite(examples.known_by(until).feature(self.toward)).mean()
        return replace(whole, shifts=shifts, told_of=told | {"share_with_" + self.toward: round(float(there), 6)})


@dataclass(frozen=True)
class FittedBlend:
    """A `Fitted`: fitted members, the feature that their middle is drawn to, and what is added to each level.

    `shifts`: `[horizon, level]` on the framing's scale; `is_tapered`: outer levels are drawn less, not all by the same.
    """

    name: str
    trained_until: datetime
    members: tuple[FittedQuantiles, ...]
    toward: str
    share: float
    framing: Framing
    shifts: Floats
    told_of: Mapping[str, Any] = field(default_factory=dict)
    is_tapered: bool = False  # so versions kept before there was a taper were learnt and calibrated

    def __post_init__(self) -> None:
        """Refuse what fits not together.

        Raises:
            ModelError: no members, members of other levels or instants, no median, shifts of another shape, or no share.
        """
        if not self.members or len({(each.levels, each.trained_until) for each in self.members}) != 1:
            raise ModelError(f"{len(self.members)} members: must be some, all of the same levels and instant")
        if self.members[0].trained_until != self.trained_until or MEDIAN not in self.levels:
            raise ModelError(f"members until {self.members[0].trained_until} with levels {self.levels}")
        if self.shifts.shape != (len(HORIZONS_H), len(self.levels)) or not np.isfinite(self.shifts).all():
            raise ModelError(f"shifts of shape {self.shifts.shape}: not one number a horizon and level")
        if not 0 <= self.share <= 1:
            raise ModelError(f"a share of {self.share}: must be between 0 and 1")

    @property
    def levels(self) -> tuple[float, ...]:
        """Levels of its quantiles, rising."""
        return self.members[0].levels

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features that it reads."""
        of_members = [name for each in self.members for name in each.columns]
        return tuple(dict.fromkeys((*of_members, *self.framing.feature, self.toward)))

    def predict(self, examples: Examples) -> Floats:
        """As `Fitted`."""
        refuse_early(self.name, self.trained_until, examples)
        put = self.framing.put(examples, self.mean(examples))
        return np.sort(self.framing.told(examples, put + self.shifts[horizon_of(examples)]), axis=1)

    def mean(self, examples: Examples) -> Floats:
        """`[n, level]` before calibration: the members' mean, moved so that the median is drawn to the feature by the share."""
        levels = np.array(self.levels)
        shares = self.share * (2 * np.minimum(levels, 1 - levels) if self.is_tapered else np.ones(len(levels)))
        found: Floats = np.mean([each.told(examples) for each in self.members], axis=0)
        away = examples.feature(self.toward) - found[:, self.levels.index(MEDIAN)]
        return np.sort(found + np.where(np.isfinite(away), away, 0.0)[:, None] * shares, axis=1)

    def describe(self) -> Mapping[str, Any]:
        """As `Fitted`."""
        about = {"name": self.name, "trained_until": self.trained_until.isoformat(), "levels": list(self.levels)}
        return about | {"columns": list(self.columns)} | dict(self.told_of)

    def to_bytes(self) -> bytes:
        """As `Fitted`: each member is its own bytes, checked by a digest of its own."""
        kept = [each.to_bytes() for each in self.members]
        about = {
            "kind": KIND, "format": FORMAT, "name": self.name, "trained_until": self.trained_until.isoformat(),
            "members": [digest_of(each) for each in kept], "toward": self.toward, "share": self.share,
            "framing": asdict(self.framing), "horizons_h": HORIZONS_H, "told": self.told_of, "is_tapered": self.is_tapered,
        }  # fmt: skip
        arrays = {f"{MEMBER}{n}": np.frombuffer(each, dtype=np.uint8) for n, each in enumerate(kept)}
        return packed(about, arrays | {NUMBERS: self.shifts.ravel().astype("<f8")})

    @classmethod
    def from_bytes(cls, kept: bytes, digest: str) -> Self:
        """The model of some bytes that have a SHA-256 digest.

        Raises:
            ModelError: other bytes than were kept, or not this format.
        """
        about, _ = unpacked(kept, digest, {})
        try:
            if about["format"] != FORMAT or tuple(about["horizons_h"]) != HORIZONS_H:
                raise ModelError(
                    f"format {about['format']} with horizons {about['horizons_h']}: this version reads neither"
                )
            digests = {f"{MEMBER}{n}": str(each) for n, each in enumerate(about["members"])}
            _, arrays = unpacked(kept, digest, dict.fromkeys(digests, "|u1") | {NUMBERS: "<f8"})
            members = tuple(FittedQuantiles.from_bytes(arrays[n].tobytes(), each) for n, each in digests.items())
            return cls(
                about["name"], datetime.fromisoformat(about["trained_until"]), members, str(about["toward"]),
                float(about["share"]), Framing(**about["framing"]), arrays[NUMBERS].reshape(len(HORIZONS_H), -1), about["told"],
                bool(about.get("is_tapered", False)),
            )  # fmt: skip
        except UNREADABLE as error:
            raise ModelError(f"it can't be read as a model: {type(error).__name__}: {error}") from error


def _importance(members: tuple[FittedQuantiles, ...]) -> dict[str, float]:
    """What features matter to the members, on average."""
    of_members = [each.told_of.get("importance", {}) for each in members]
    names = {name for each in of_members for name in each}
    mean = {name: round(sum(each.get(name, 0.0) for each in of_members) / len(members), 6) for name in names}
    return dict(sorted(mean.items(), key=lambda each: (-each[1], each[0]))[:MOST_TOLD])
