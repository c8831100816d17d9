"""Every target that is named can be had, keeps the protocol, and its asset hangs on the tables that it reads."""

import json
import warnings
from datetime import datetime

import httpx
import pytest

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.orchestration.training import asking
from hcp_pipelines.orchestration.training.asking import config_of, job_of
from hcp_pipelines.orchestration.training.targets import TARGETS, days_of, model_of, target_of
from hcp_pipelines.orchestration.training.told import Asked
from hcp_pipelines.orchestration.training.train import LEAST_DAYS, MOST_DAYS
from hcp_pipelines.orchestration.training.trial import VALUES, YARDSTICKS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from assets.training import LEARNT_FROM, TrainingConfig
    from jobs.training import retrain_jobs

LAUNCHED = {"__typename": "LaunchRunSuccess", "run": {"runId": "r1"}}
of_each = pytest.mark.parametrize("name", list(TARGETS))


def test_there_are_the_five_that_the_platform_forecasts():
    assert set(TARGETS) == {"price", "demand", "capacity", "utilization", "failure_risk"}
    assert set(VALUES) <= set(TARGETS)
    assert set(retrain_jobs) == set(TARGETS)


@of_each
def test_a_target_keeps_the_protocol_and_hangs_on_its_tables(name):
    target = target_of(name)
    assert target.name == name
    names = [model.name for model in target.models]
    assert len(set(names)) == len(names) > YARDSTICKS, "two baselines, and what should beat them"
    assert model_of(target.models, name, "") is target.models[-1]
    assert [table.replace(".", "_", 1) for table in target.tables] == LEARNT_FROM[name]
    assert LEAST_DAYS <= days_of(name) <= MOST_DAYS
    with pytest.raises(ConfigError, match=r"no model 'magic': there are"):
        model_of(target.models, name, "magic")


def test_a_run_that_is_asked_for_is_what_the_launchpad_would_ask():
    asked = Asked("capacity", 84, ("hou-1/h100",), "random_forest", 7, may_promote=False)
    assert job_of("capacity") == "retrain_capacity_job"
    [(step, given)] = config_of(asked)["ops"].items()
    assert step == "core_hcp__capacity_model"
    assert set(given["config"]) == set(TrainingConfig.model_fields)
    assert TrainingConfig(**given["config"]).groups == ["hou-1/h100"]
    shown = TrainingConfig.to_config_schema().as_field().config_type.fields
    assert all(field.default_provided for field in shown.values()), "the launchpad shows what can be said"


async def test_a_run_is_followed_through_a_webserver_that_goes_away_and_carries_the_world_s_instant(monkeypatch):
    monkeypatch.setattr(asking, "POLL_S", 0.001)
    launched, answers = [], iter([None, "STARTED", None, None, "SUCCESS"])

    def webserver(request):
        variables = json.loads(request.content)["variables"]
        if "params" in variables:
            launched.append(variables["params"])
            return httpx.Response(200, json={"data": {"launchRun": LAUNCHED}})
        status = next(answers)
        if status is None:
            return httpx.Response(502)
        return httpx.Response(200, json={"data": {"runOrError": {"__typename": "Run", "status": status}}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(webserver)) as client:
        run = await asking.request(client, 1, SystemClock(), Asked("price"))
    assert (run.id, run.status) == ("r1", "SUCCESS")
    [tag] = launched[0]["executionMetadata"]["tags"]
    assert tag["key"] == asking.ASKED_AT
    assert datetime.fromisoformat(tag["value"]).tzinfo is not None
