"""One training from the lake to a version: learn, score, compare, keep it as challenger, draw its card, record it.

Postgres's `models` is what counts; the card and the record in MLflow are beside it, and their absence is said and fails nothing.
"""

import io
import json
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.domain.errors import ConfigError, ModelError, StorageError
from hcp_pipelines.forecasting.model_file import digest_of
from hcp_pipelines.forecasting.serving import Served, served
from hcp_pipelines.orchestration.backtesting import write_page
from hcp_pipelines.orchestration.training import card, record
from hcp_pipelines.orchestration.training.lessons import Lessons, read_lessons
from hcp_pipelines.orchestration.training.targets import TRIED_DAYS, days_of, model_of, target_of
from hcp_pipelines.orchestration.training.told import Asked, kept
from hcp_pipelines.orchestration.training.trial import CHALLENGER, TRIAL, Trial, hold, overall
from hcp_pipelines.runtime.version import code_version
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import models

LEAST_DAYS, MOST_DAYS = 2 * TRIAL.days, 3700
SCORES_RECORDED = ("pinball", "mae", "rmae_naive", "mase", "smape", "coverage_80", "coverage_90")


@dataclass(frozen=True)
class Made:
    """What came of a training: the version that is kept, if any; its page; what a reader must know."""

    version: int | None
    told: dict[str, Any]
    page: Path | None = None
    scores: list[dict[str, Any]] = field(default_factory=list)


def train(connection: "psycopg.Connection[Any]", settings: Settings, asked: Asked, now: datetime, actor: str) -> Made:
    """Learn what was asked for from the lake and keep it as challenger; the champion goes on serving, whatever comes.

    What can't be learnt makes no version, and `told` says why.

    Raises:
        ConfigError: no such target or model, or a window out of bounds.
        StorageError: the lake or Postgres is away.
    """
    began_s = time.perf_counter()
    target = target_of(asked.target)
    model = model_of(target.models, target.name, asked.model)
    asked = replace(asked, days=asked.days or days_of(asked.target))
    if not LEAST_DAYS <= asked.days <= MOST_DAYS:
        raise ConfigError(
            f"days={asked.days}: must be {LEAST_DAYS} to {MOST_DAYS}, the last {TRIAL.days} of them for the trial"
        )
    champion, unfit = _champion(connection, target.name)
    try:
        read = timedelta(days=max(asked.days, TRIED_DAYS.get(target.name, 0)))
        lessons = read_lessons(settings, target, (now - read, now), asked.groups)
        trial = hold(target, lessons.examples, now, model, asked.seed, champion, timedelta(days=asked.days))
    except ConfigError as error:
        serving = f"version {champion.serving.version} goes on serving" if champion else "none serves"
        return Made(None, {"status": "none", "why": f"{error} ({serving})"})
    if unfit:
        trial = _against_nobody(trial, unfit)
    content = trial.fitted.to_bytes()
    metadata = kept(asked, trial, lessons.examples, lessons.snapshot_id, code_version(), target.unit)
    why = _why(trial)
    version = models.keep(
        connection,
        models.Kept(target.name, digest_of(content), content, trial.fitted.trained_until, now, metadata),
        "challenger", actor, why,
    )  # fmt: skip
    html = card.draw(f"{target.name} {version}", metadata, trial)
    page = write_page(settings.at("reports", "models", target.name), str(version), html)
    recorded = _recorded(settings, asked, version, lessons, trial, content, html)
    followed = record.follow_table(settings, connection, target.name)
    told = {
        "status": "challenger", "version": version, "why": why, "digest": digest_of(content), "model": trial.fitted.name,
        "snapshot_id": lessons.snapshot_id, "questions": len(lessons.examples), "mlflow": f"{recorded}; {followed}",
        "seconds": round(time.perf_counter() - began_s, 1),
    }  # fmt: skip
    return Made(version, told, page, [{"model": name, **overall(table)} for name, table in trial.scores.items()])


def plain_skops(content: bytes) -> bytes:
    """A kept model's metadata and arrays as a file of skops: it holds plain values alone, and loading it runs no code."""
    import skops.io  # scikit-learn comes with it

    with np.load(io.BytesIO(content), allow_pickle=False) as packed:
        arrays = {name: packed[name] for name in packed.files}
    about = json.loads(arrays.pop("about").tobytes())
    dumped: bytes = skops.io.dumps({"about": json.dumps(about, sort_keys=True), "arrays": arrays})
    return dumped


def _champion(connection: "psycopg.Connection[Any]", name: str) -> tuple[Served | None, str]:
    """The champion, or why it can't be asked."""
    serving = models.champion(connection, name)
    if serving is None:
        return None, ""
    try:
        return served(connection, serving), ""
    except ModelError as error:
        return None, str(error)


def _against_nobody(trial: Trial, unfit: str) -> Trial:
    """A champion whose bytes are damaged is no rival: a person says what replaces it."""
    return Trial(
        trial.fitted, trial.window, trial.forecasts, trial.scores, None, None,
        f"the champion can't be read: {unfit}", trial.value, trial.value_note,
    )  # fmt: skip


def _why(trial: Trial) -> str:
    found = trial.comparison
    if found is None:
        return f"not compared: {trial.why}"
    other = f"champion {trial.against}" if trial.against is not None else found.other
    word = "better than" if found.is_better else "not better than"
    return f"{word} {other}: {found.ratio:.3f} times its loss over {found.days} days, p = {found.p_value:.3g}"


def _recorded(
    settings: Settings, asked: Asked, version: int, lessons: Lessons, trial: Trial, content: bytes, html: str
) -> str:
    """In MLflow; what was recorded, or why it was not."""
    skops_file = plain_skops(content)
    row = overall(trial.scores[CHALLENGER])
    numbers = {name: float(row[name]) for name in SCORES_RECORDED if row.get(name) is not None}
    if trial.comparison is not None:
        numbers |= {"p_value": trial.comparison.p_value, "ratio": trial.comparison.ratio}
    numbers |= {f"usd_{each.name}": each.usd_per_unit_year for each in trial.value}
    parameters: dict[str, Any] = dict(trial.fitted.describe().get("parameters", {}))
    recording = record.Recording(
        asked.target, version,
        {"days": asked.days, "groups": ",".join(asked.groups) or "all", "seed": asked.seed, "model": trial.fitted.name}
        | parameters,
        {name: value for name, value in numbers.items() if np.isfinite(value)},
        {
            "hcp.digest": digest_of(content), "hcp.skops_digest": digest_of(skops_file), "hcp.code": code_version(),
            "hcp.snapshot_id": lessons.snapshot_id, "hcp.trained_until": trial.fitted.trained_until.isoformat(),
        },
        {record.MODEL_FILE: content, record.SKOPS_FILE: skops_file, record.CARD_FILE: html.encode()},
    )  # fmt: skip
    try:
        return f"run {record.record(settings, recording)}"
    except StorageError as error:
        return f"not recorded: {error}"
