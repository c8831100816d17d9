"""Forecasts that are learnt, tried, promoted by a check, asked in the shadow and scored. `orchestration.training` does it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl
import psycopg
from pydantic import Field

from assets.checks import told
from assets.daily import plain_schema
from hcp_pipelines.orchestration.alerts import ACTOR
from hcp_pipelines.orchestration.io_managers import shown
from hcp_pipelines.orchestration.resources import Platform
from hcp_pipelines.orchestration.training import attempts, judging, shadow
from hcp_pipelines.orchestration.training.targets import TARGETS
from hcp_pipelines.orchestration.training.told import Asked
from hcp_pipelines.orchestration.training.train import MOST_DAYS, train
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.settings import Settings

GROUP, OWNERS = "training", ["team:decisions"]
LEARNT_FROM = {
    "price": ["core_power__known_prices", "core_power__known_grid"],
    "demand": ["core_hcp__gpu_demand_changes"],
    "capacity": ["core_fleet__hours"],
    "failure_risk": ["core_fleet__hours"],
    "utilization": ["core_fleet__hours"],
}
SCORES = "core_hcp__model_scores"
WORDS = "words"  # metadata of the scores: what the sensors look at, by name


class TrainingConfig(dg.Config):
    """Days (0: as usual; the last 28 or more are its trial), entities (none: all), model (none: the one that ships)."""

    days: int = Field(default=0, ge=0, le=MOST_DAYS)
    groups: list[str] = Field(default=[])  # a factory's would not be shown in the launchpad
    model: str = ""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    may_promote: bool = True


def model_key(name: str) -> str:
    """The asset that learns a target."""
    return f"core_hcp__{name}_model"


def words_of(name: str) -> str:
    """A target's name in words."""
    return name.replace("_", " ")


def learnt(name: str) -> dg.AssetsDefinition:
    """The asset that learns a target: each materialization is a version, with its card."""

    @dg.asset(
        name=model_key(name), group_name=GROUP, owners=OWNERS, kinds={"sklearn", "postgres", "plotly"}, pool="forecasts",
        deps=LEARNT_FROM.get(name, []),
        description=f"A version of the forecast of {words_of(name)}: learnt, tried beside the champion, kept as challenger.",
    )  # fmt: skip
    def _model(
        context: dg.AssetExecutionContext, config: TrainingConfig, platform: Platform
    ) -> dg.MaterializeResult[Any]:
        asked = Asked(name, config.days, tuple(config.groups), config.model, config.seed, config.may_promote)
        now = platform.clock().now()
        attempts.tag_by_hand(context.instance, context.run, now)
        with platform.connection() as connection:
            made = train(connection, platform.settings(), asked, now, ACTOR)
        context.log.info(made.told["why"])
        more: dict[str, Any] = {"card": dg.MetadataValue.path(made.page)} if made.page else {}
        if made.scores:
            more["scores"] = shown(pl.DataFrame(made.scores, infer_schema_length=None))
        return dg.MaterializeResult(metadata={**made.told, **more})

    return _model


def judged(name: str) -> dg.AssetChecksDefinition:
    """The check that promotes a challenger which its trial showed to be better."""

    @dg.asset_check(
        asset=model_key(name), name="challenger_beats_champion",
        description="Promotes the challenger where a paired test on the same weeks says that it is better.",
    )  # fmt: skip
    def _check(platform: Platform) -> dg.AssetCheckResult:
        with platform.connection() as connection:
            return told(judging.judge(connection, platform.settings(), name, ACTOR))

    return _check


trained = [learnt(name) for name in TARGETS]
trials = [judged(name) for name in TARGETS]


@dg.asset(
    group_name="shadow",
    owners=OWNERS,
    kinds={"polars", "ducklake"},
    pool="forecasts",
    deps=[model_key(name) for name in TARGETS],
    metadata=plain_schema(shadow.SCHEMA),
)
def core_hcp__model_forecasts(platform: Platform) -> dg.MaterializeResult[Any]:
    """What champion and challenger say as they can be asked: a row a version, entity, instant asked and interval wanted."""
    clock, settings = platform.clock(), platform.settings()
    now, speed = clock.now(), clock.speed
    with platform.connection() as connection:
        found = {name: shadow.ask(connection, settings, name, now, speed) for name in shadow.names_asked(connection)}
    return dg.MaterializeResult(
        metadata={f"{name}_{role}": rows for name, by in found.items() for role, rows in by.items()}
    )


@dg.asset(
    name=SCORES,
    group_name="shadow",
    owners=OWNERS,
    kinds={"polars"},
    pool="forecasts",
    deps=[core_hcp__model_forecasts],
)
def core_hcp__model_scores(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[Any]:
    """How good what was said in the shadow has been over five weeks, and whether questions or errors have moved away."""
    now, settings = platform.clock().now(), platform.settings()
    with platform.connection() as connection:
        found = {name: shadow.score(connection, settings, name, now) for name in shadow.names_asked(connection)}
    for name, each in found.items():
        told_of = each.why_not or (each.evidence.in_words() if each.evidence else "nothing to compare")
        context.log.info(f"{name}: {told_of}")
    table = shadow.table_of_scores(list(found.values()), now)
    words = {name: each.word for name, each in found.items()}
    why_not = {f"{name}_not_scored": each.why_not for name, each in found.items() if each.why_not}
    return dg.MaterializeResult(metadata={"scores": shown(table), WORDS: dg.MetadataValue.json(words), **why_not})


@dg.asset_check(asset=SCORES)
def shadow_promotes(platform: Platform) -> dg.AssetCheckResult:
    """Promotes challengers which were better than the champion on what both were asked in the shadow."""
    now, settings = platform.clock().now(), platform.settings()
    with platform.connection() as connection:
        found = dict(_judged(connection, settings, now))
    passed = all(each.passed for each in found.values())
    return told(Judged(passed, "; ".join(f"{name}: {each.why}" for name, each in found.items()) or "nothing is asked"))


def _judged(connection: "psycopg.Connection[Any]", settings: Settings, now: datetime) -> Iterator[tuple[str, Judged]]:
    for name in shadow.names_asked(connection):
        scored = shadow.score(connection, settings, name, now)
        if scored.why_not:
            yield name, Judged(False, scored.why_not)
        elif scored.evidence is not None:
            yield name, judging.judge(connection, settings, name, ACTOR, scored.evidence)
