"""What is kept of a training beside its bytes: plain JSON values, for people, the record and the sensors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import polars as pl

from hcp_pipelines.forecasting.drift import profile
from hcp_pipelines.forecasting.learnable.compare import Comparison
from hcp_pipelines.forecasting.learnable.protocol import Examples, Fitted
from hcp_pipelines.forecasting.learnable.scoring import ALL
from hcp_pipelines.orchestration.training.trial import CHALLENGER, Trial, overall

WATCHED = 12  # features whose drift is looked at: those that matter most …
CALENDAR = frozenset({"season_sin", "season_cos", "month", "day_of_year"})  # … and don't move because time passes
MOST_SCORES = 400  # rows by entity and horizon; of more, those of all entities together


@dataclass(frozen=True)
class Asked:
    """What is to be learnt: over how many days (0: as usual), of which entities (none: all), by which model (none: the last)."""

    target: str
    days: int = 0
    groups: tuple[str, ...] = ()
    model: str = ""
    seed: int = 0
    may_promote: bool = True


def kept(asked: Asked, trial: Trial, examples: Examples, snapshot_id: int, code: str, unit: str) -> dict[str, Any]:
    """The metadata of a version."""
    described = dict(trial.fitted.describe())
    told: dict[str, Any] = plain(
        {
            **described,
            "asked": asdict(asked) | {"model": trial.fitted.name},
            "unit": unit,
            "snapshot_id": snapshot_id,
            "code": code,
            "trial": {"from": trial.window[0], "to": trial.window[1], "against": trial.against, "why": trial.why},
            "scores": {name: _rows(table) for name, table in trial.scores.items()},
            "pinball": overall(trial.scores[CHALLENGER]).get("pinball"),
            "comparison": compared(trial.comparison),
            "value": [asdict(each) for each in trial.value],
            "value_note": trial.value_note,
            "features": profile(examples, watched(trial.fitted)),
        }
    )
    return told


def compared(comparison: Comparison | None) -> dict[str, Any] | None:
    """A comparison as it is kept."""
    return None if comparison is None else plain(asdict(comparison) | {"is_better": comparison.is_better})


def watched(fitted: Fitted) -> tuple[str, ...]:
    """The features whose drift is looked at."""
    importance: Mapping[str, float] = fitted.describe().get("importance", {})
    most = sorted(importance, key=lambda name: -importance[name])
    return tuple(name for name in most or fitted.columns if name not in CALENDAR)[:WATCHED]


def plain(value: Any) -> Any:
    """As JSON takes it: what is not finite is null, instants are text."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(each) for each in value]
    return value


def _rows(scores: pl.DataFrame) -> list[dict[str, Any]]:
    shown = scores if len(scores) <= MOST_SCORES else scores.filter(pl.col("entity") == ALL)
    rounded = shown.with_columns(pl.col(pl.Float64).round_sig_figs(6))
    return rounded.to_dicts()
