"""Training in Dagster: the launchpad's configuration, the check that promotes, the shadow, what is due; and its commands."""

import json
import re
import warnings
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.operators import accounts
from hcp_pipelines.orchestration.training import attempts, due, judging, looks, record, shadow, targets
from hcp_pipelines.storage import lake, models
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support import sine
from tests.support.cli import hcp
from tests.support.sine import NOW

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from assets import training
    from hcp_pipelines.orchestration.resources import Platform
    from jobs.training import retrain, shadow_schedule, weekly
    from sensors import training as sensors

__all__ = ["hcp"]

BASELINE = sine.SINE.models[0]
EARLIER = NOW - timedelta(days=20)


class At(Platform):
    """The platform at an instant of its world."""

    def clock(self):
        return Still()


class Still(SystemClock):
    def now(self):
        return NOW


@pytest.fixture(autouse=True)
def only_sine(monkeypatch):
    monkeypatch.setattr(targets, "TARGETS", sine.WHERE)
    monkeypatch.setattr(shadow, "TARGETS", sine.WHERE)
    monkeypatch.setattr(record, "record", lambda *_: "recorded elsewhere")  # test_training_record.py does it in truth
    monkeypatch.setattr(record, "follow", lambda *_: [])


@pytest.fixture
def control(settings):
    with connect(settings, Role.CONTROL) as connection:
        sine.write(settings, sine.hours())
        yield connection
    sine.drop(settings)
    with lake.attach(settings) as attached:
        attached.execute(f"drop table if exists lake.{shadow.FORECASTS}")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def resources(settings):
    return {"platform": At(state_dir=str(settings.state_dir))}


def run(settings, instance, assets, **config):
    asked = {"ops": {"core_hcp__sine_model": {"config": config}}} if config else None
    return dg.materialize(assets, resources=resources(settings), instance=instance, run_config=asked)


def told(done, node):
    (made,) = done.asset_materializations_for_node(node)
    return {name: value.value for name, value in made.metadata.items()}


def test_a_run_from_the_launchpad_learns_and_its_check_promotes(settings, control, instance, hcp):
    sine.keep(control, model=BASELINE)
    model, check = training.learnt("sine"), training.judged("sine")
    assert str(retrain("sine").name) == "retrain_sine_job"
    with pytest.raises(ConfigError, match="days=20: must be 56 to 3700"):
        run(settings, instance, [model], days=20)
    done = run(settings, instance, [model, check], days=84, seed=3)
    tags = instance.get_run_by_id(done.run_id).tags
    assert (tags[attempts.ASKED_AT], tags[attempts.REASON]) == (NOW.isoformat(), attempts.BY_HAND)
    made = told(done, "core_hcp__sine_model")
    assert (made["status"], made["version"], made["model"]) == ("challenger", 2, "boosted_trees")
    assert made["card"].endswith("reports/models/sine/2.html")
    (evaluated,) = done.get_asset_check_evaluations()
    assert evaluated.passed
    assert re.search(
        r"version 2 was promoted: better than champion 1 in its trial: 0\.\d{3} times", evaluated.description
    )
    assert models.champion(control, "sine").version == 2

    state = ("--state-dir", settings.state_dir)
    listed = hcp(*state, "model", "compare", "sine", "--json")
    [newest, first] = json.loads(listed.out)["versions"]
    assert (newest["status"], newest["asked"]["seed"], newest["comparison"]["is_better"]) == ("champion", 3, True)
    assert first["status"] == "archived"
    shown = hcp(*state, "model", "compare", "sine").out
    assert "seasonal_naive" in shown
    assert "no decision and no back-test asks this forecast yet" in shown
    _a_person_decides(settings, control, hcp, state)


def _a_person_decides(settings, control, hcp, state):
    with connect(settings, Role.OPERATOR) as connection:
        for name, role in (("ann", "operator"), ("vic", "viewer")):
            accounts.add(settings, connection, name, accounts.OperatorRole(role), "test")
    reason = ("--reason", "the old one was calmer")
    assert hcp(*state, "model", "rollback", "sine", "--as", "ann").code == 2, "no reason, no change"
    refused = hcp(*state, "model", "rollback", "sine", *reason, "--as", "vic")
    assert (refused.code, "takes an operator or an admin" in refused.err) == (1, True)
    back = hcp(*state, "model", "rollback", "sine", *reason, "--as", "ann")
    assert (back.code, back.out.strip()) == (0, "sine 1 serves again in place of 2")
    forth = hcp(*state, "model", "promote", "sine", "2", *reason, "--as", "ann")
    assert forth.out.strip() == "sine 2 serves in place of 1"
    assert hcp(*state, "model", "promote", "sine", "7", *reason, "--as", "ann").code == 2
    last = control.execute(
        "select actor, action, subject, detail ->> 'reason' from audit_log order by id desc limit 1"
    ).fetchone()
    assert last == ("ann", "model.promote", "sine 2", "the old one was calmer")


def test_the_shadow_asks_both_scores_them_and_promotes_the_better(settings, control, instance, monkeypatch):
    monkeypatch.setattr(shadow, "ASKED_BACK", timedelta(days=20))
    monkeypatch.setattr(looks, "ERRS", 0.1)  # fourteen days of this sine say p = 0.04
    shadow_assets = [training.core_hcp__model_forecasts, training.core_hcp__model_scores, training.shadow_promotes]
    skipped = shadow_schedule(dg.build_schedule_context(resources=resources(settings)))
    assert isinstance(skipped, dg.SkipReason)
    sine.keep(control, model=BASELINE, until=EARLIER)
    sine.keep(control, "challenger", until=EARLIER)
    assert isinstance(shadow_schedule(dg.build_schedule_context(resources=resources(settings))), dg.RunRequest)

    done = run(settings, instance, shadow_assets)
    assert told(done, "core_hcp__model_forecasts") == {"sine_champion": 20 * 24, "sine_challenger": 20 * 24}
    word = told(done, "core_hcp__model_scores")["words"]["sine"]
    assert word["version"] == 1
    assert word["drift"] is not None
    (evaluated,) = done.get_asset_check_evaluations()
    assert evaluated.passed
    assert "version 2 was promoted: better than champion 1 in the shadow" in evaluated.description
    again = run(settings, instance, shadow_assets[:1])
    assert told(again, "core_hcp__model_forecasts") == {"sine_champion": 0}, "what was asked is not asked again"
    with lake.attach(settings, read_only=True) as attached:
        rows = attached.execute(
            f"select role, count(*), count(quantile_50) from lake.{shadow.FORECASTS} group by all order by all"
        )
        assert rows.fetchall() == [("challenger", 480, 480), ("champion", 480, 480)]


def test_nothing_is_asked_later_than_the_tables_know(settings, control, monkeypatch):
    monkeypatch.setattr(shadow, "ASKED_BACK", timedelta(days=20))
    sine.keep(control, until=EARLIER)
    newest = NOW - timedelta(days=3)
    sine.write(settings, sine.hours().filter(pl.col("known_at") <= newest))
    assert shadow.ask(control, settings, "sine", NOW) == {"champion": 18 * 24}
    sine.write(settings, sine.hours())
    assert shadow.ask(control, settings, "sine", NOW) == {"champion": 2 * 24}, "asked as it comes to be known"


def test_a_challenger_that_is_not_looked_at_yet_is_nothing_wrong_and_a_damaged_one_is(settings, control):
    sine.keep(control, until=EARLIER)
    sine.keep(control, "challenger", until=NOW - timedelta(days=2))
    shadow.ask(control, settings, "sine", NOW)
    evidence = shadow.score(control, settings, "sine", NOW).evidence
    watched = judging.judge(control, settings, "sine", "test", evidence)
    assert (watched.passed, watched.told["champion"]) == (True, 1)
    assert re.search(
        r"challenger 2 is asked beside it; \d days are known: it is looked at after 14 and 21", watched.why
    )
    damaged = models.Kept("sine", "0" * 64, b"no model", NOW - timedelta(days=2), NOW, {})
    version = models.keep(control, damaged, "challenger", "test", "a test")
    refused = judging.judge(control, settings, "sine", "test", replace(evidence, version=version))
    assert (refused.passed, "challenger sine 3: its digest is" in refused.why) == (False, True)


def test_in_a_fast_world_no_question_goes_unasked_between_two_hours_of_the_wall(settings, control):
    sine.keep(control, until=EARLIER)
    assert shadow.ask(control, settings, "sine", NOW, speed=1.0)["champion"] < 8 * 24
    sine.keep(control, until=EARLIER)
    assert shadow.ask(control, settings, "sine", NOW, speed=240.0) == {"champion": 20 * 24}, "twenty days in two hours"


def test_one_target_without_its_table_is_told_and_holds_up_no_other(settings, control, instance, monkeypatch):
    both = sine.WHERE | {"broken": "tests.support.sine:BROKEN"}
    monkeypatch.setattr(targets, "TARGETS", both)
    monkeypatch.setattr(shadow, "TARGETS", both)
    sine.keep(control, until=EARLIER)
    models.keep(control, models.Kept("broken", "0" * 64, b"-", EARLIER, EARLIER, {}), "champion", "test", "a test")
    done = run(settings, instance, [training.core_hcp__model_scores, training.shadow_promotes])
    made = told(done, "core_hcp__model_scores")
    assert made["words"]["sine"]["version"] == 1
    assert "core.sine__nowhere" in made["broken_not_scored"]
    (evaluated,) = done.get_asset_check_evaluations()
    assert not evaluated.passed
    assert "broken: not scored" in evaluated.description


def test_what_is_due_by_the_week(settings, control, instance):
    schedule = weekly("sine", retrain("sine"))
    skipped = schedule(dg.build_schedule_context(resources=resources(settings)))
    assert isinstance(skipped, dg.SkipReason), "what was never learnt is a person's to begin"
    sine.keep(control, until=NOW - timedelta(days=8))

    def why(status, tags):
        instance.add_run(dg.DagsterRun("retrain_sine_job", status=status, tags=tags))
        return due.week_passed(control, "sine", NOW, attempts.last_attempt(instance, "sine", NOW))

    ended, failed = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
    assert why(failed, attempts.tags("a test", NOW - timedelta(days=3))) == "a week has passed", "tried three days ago"
    assert why(ended, {}) == "a week has passed", "a person's"
    assert why(ended, attempts.tags("a test", NOW)) == "", "tried today, and it made no version"


@pytest.mark.parametrize(
    ("status", "is_under_way"),
    [
        ("NOT_STARTED", True),
        ("STARTING", True),
        ("STARTED", True),
        ("CANCELING", True),
        ("CANCELED", False),
        ("FAILURE", False),
    ],
)
def test_none_is_asked_for_beside_one_that_runs(instance, status, is_under_way):
    assert attempts.last_attempt(instance, "sine", NOW) is None
    instance.add_run(dg.DagsterRun("retrain_sine_job", status=dg.DagsterRunStatus[status]))
    assert attempts.last_attempt(instance, "sine", NOW) == (NOW if is_under_way else None)


def test_a_challenger_has_the_days_of_its_looks(control):
    sine.keep(control, until=NOW - timedelta(days=9))
    assert due.week_passed(control, "sine", NOW - timedelta(days=3)) == "", "learnt six days ago"
    sine.keep(control, "challenger", until=NOW - timedelta(days=8))
    assert due.week_passed(control, "sine", NOW + timedelta(days=2)) == "", "the challenger is in its trial"
    assert due.week_passed(control, "sine", NOW + timedelta(days=15)) == "", "its second look is not over"
    assert due.week_passed(control, "sine", NOW + timedelta(days=16)) == "a week has passed"
    control.execute("update models set status = 'archived' where name = 'sine' and status = 'challenger'")
    sine.keep(control, "challenger", until=NOW + timedelta(days=16), metadata={"comparison": {"ahead_days": 7}})
    assert due.week_passed(control, "sine", NOW + timedelta(days=16 + 30)) == "", (
        "what looks a week ahead is looked at after 28"
    )
    assert due.week_passed(control, "sine", NOW + timedelta(days=16 + 31)) == "a week has passed"


@pytest.mark.parametrize(
    ("word", "of_drift", "of_error"),
    [
        ({"drift": 0.9, "feature": "signal", "error_ratio": 1.0}, "signal has drifted: stability 0.90, above 0.25", ""),
        (
            {"drift": 0.1, "feature": "signal", "error_ratio": 2.0},
            "",
            "it errs 2.00 times as much as in its trial, above 1.5",
        ),
        ({"drift": None, "error_ratio": None}, "", ""),
        ({"drift": 0.9, "usual": 1.1, "feature": "signal"}, "", ""),
    ],
)
def test_sensors_ask_once_for_what_has_moved(settings, control, instance, monkeypatch, word, of_drift, of_error):
    monkeypatch.setattr(sensors, "retrain_jobs", {"sine": retrain("sine")})
    sine.keep(control, until=NOW - timedelta(days=3))
    both = ((sensors.model_drift_sensor, of_drift), (sensors.model_error_sensor, of_error))

    def ticked(sensor, cursor=None):
        context = dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources(settings))
        return sensor(context)

    assert ticked(both[0][0]).skip_reason.skip_message == "no forecast was scored yet"
    key, words = dg.AssetKey(training.SCORES), {training.WORDS: dg.MetadataValue.json({"sine": word})}
    instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=words))
    for sensor, why in both:
        found = ticked(sensor)
        asked = [(request.job_name, request.tags["hcp/reason"]) for request in found.run_requests or []]
        assert asked == ([("retrain_sine_job", why)] if why else [])
        assert not ticked(sensor, found.cursor).run_requests
    sine.keep(control, "challenger", until=NOW - timedelta(days=3))
    assert not any(ticked(sensor).run_requests for sensor, _ in both), "its challenger is in its trial"
