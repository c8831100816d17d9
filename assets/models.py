"""Models that decisions ask, learnt from the platform's own record. `orchestration.learning` does it."""

from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from assets.checks import told
from hcp_pipelines.orchestration.learning import judge_model, make_model
from hcp_pipelines.orchestration.resources import Platform

GROUP = "models"


class ModelConfig(dg.Config):
    """How far back is learnt from, and whether the model may serve if it is no worse than the plain band."""

    history_days: int = Field(default=400, ge=57, le=3700)
    may_promote: bool = True


@dg.asset(
    group_name=GROUP, owners=["team:decisions"], kinds={"sklearn", "postgres"}, pool="forecasts",
    deps=["raw_ercot__rt_spp", "raw_ercot__da_spp", "raw_hcp__price_ticks"],
)  # fmt: skip
def core_power__waiting_model(
    context: dg.AssetExecutionContext, config: ModelConfig, platform: Platform
) -> dg.MaterializeResult[Any]:
    """What being on is worth, learnt from past prices at all points: the model that live policies ask for their strikes."""
    now, history = platform.clock().now(), timedelta(days=config.history_days)
    with platform.connection() as connection:
        made = make_model(connection, platform.settings(), now, history=history, may_promote=config.may_promote)
    context.log.info(made.told["why"])
    return dg.MaterializeResult(metadata=made.told)


@dg.asset_check(asset=core_power__waiting_model)
def newest_model_serves(platform: Platform) -> dg.AssetCheckResult:
    """The newest model was no worse than the plain band, and the one that serves can be used."""
    with platform.connection() as connection:
        return told(judge_model(connection, platform.clock().now()))
