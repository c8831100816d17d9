"""The record of trainings in MLflow: a run and a model a version, aliases that follow Postgres, nobody outside is called."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import polars as pl
import psycopg
import pytest

from hcp_pipelines.orchestration.training import record, retention, shadow, ui
from hcp_pipelines.storage import lake, models
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from tests.support import sine
from tests.support.recording import keep

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from hcp_pipelines.orchestration.resources import Platform
    from jobs.training import let_go_of_old_models

ROOT = Path(__file__).resolve().parents[2]
TESTS_OWN = ("HCP_", "PYTEST", "CI", "MLFLOW", "DO_NOT_TRACK")


def test_a_version_is_recorded_and_its_aliases_follow_and_nobody_is_called(settings, database):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(TESTS_OWN)}
    argv = [sys.executable, "-m", "tests.support.recording", str(settings.state_dir)]
    done = subprocess.run(argv, env=plain, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "imported_early": False,
        "telemetry": "None",
        "calls": [],
        "runs_of_one_version": 1,
        "status": "FINISHED",
        "days": "90",
        "pinball": 0.25,
        "file": "kept",
        "followed": [
            ["aliases: champion is 1, challenger is 2", [["challenger", "2"], ["champion", "1"]]],
            ["aliases are as they should be", [["challenger", "2"], ["champion", "1"]]],
            ["aliases: champion is 2, challenger is nobody", [["champion", "2"]]],
            ["aliases: champion is nobody", []],  # an old version that is still called champion would be a lie
        ],
        "let_go": [[[1], {}], [[], {}], False],
        "let_go_in_part": [[5, 7], [6], [6]],
        "scores_stay": 0.25,
        "stored": ["kept there", "NotFound"],
    }


def test_without_its_database_it_says_so_and_a_promotion_stands(settings, database):
    keep(database, "champion", b"one")
    with psycopg.connect(EmbeddedPostgres(settings).admin_dsn(), autocommit=True) as admin:
        admin.execute("revoke connect on database mlflow from hcp_mlflow")
        admin.execute("alter database mlflow owner to hcp_admin")
        try:
            told = record.follow_table(settings, database, "sine")
        finally:
            admin.execute("alter database mlflow owner to hcp_mlflow")
            admin.execute("grant connect on database mlflow to hcp_mlflow")
    assert "aliases do not follow yet" in told
    assert "permission denied" in told
    assert models.champion(database, "sine").version == 1


def test_the_pages_are_told_where_the_record_is_and_nothing_else_of_the_platform(settings):
    told = ui.environment(settings)
    assert not [name for name in told if name.startswith("HCP_")]
    assert told["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://hcp_mlflow:")
    assert told["MLFLOW_DISABLE_TELEMETRY"] == "true"
    keys = {"lake_s3_key_id": "ID", "lake_s3_secret": "s3cret", "lake_s3_endpoint": "https://store:9000"}
    remote = type(settings)(state_dir=settings.state_dir, mlflow_artifacts="s3://models", **keys)
    more = {name: value for name, value in ui.environment(remote).items() if told.get(name) != value}
    assert more == {
        "AWS_ACCESS_KEY_ID": "ID", "AWS_SECRET_ACCESS_KEY": "s3cret", "MLFLOW_S3_ENDPOINT_URL": "https://store:9000",
    }  # fmt: skip


@pytest.mark.parametrize("sound", [True, False])
def test_promotion_and_return(settings, database, sound):
    first, second, third = (
        keep(database, status, text) for status, text in (("champion", b"1"), ("challenger", b"2"), ("archived", b"3"))
    )
    if not sound:
        database.execute("update models set artefact = 'other' where version = 2")
        with pytest.raises(models.ModelError, match="is not what was kept"):
            models.promote(database, "sine", 2, "ann", "better", {})
        assert models.champion(database, "sine").version == first
        return
    assert models.promote(database, "sine", second, "ann", "better", {"p_value": 0.01}) == first
    assert models.promote(database, "sine", third, "ann", "better still", {}) == second
    with pytest.raises(models.ConfigError, match="is the champion already"):
        models.promote(database, "sine", third, "ann", "again", {})
    assert models.roll_back(database, "sine", "ann", "worse") == (third, second)
    assert models.roll_back(database, "sine", "ann", "worse too") == (second, first)
    with pytest.raises(models.ConfigError, match="nothing to go back to"):
        models.roll_back(database, "sine", "ann", "once more")
    actions = database.execute("select action, subject, detail ->> 'before' from audit_log order by id").fetchall()
    assert actions[3:] == [
        ("model.promote", "sine 2", "1"), ("model.promote", "sine 3", "2"), ("model.rollback", "sine 2", "3"),
        ("model.rollback", "sine 1", "2"),
    ]  # fmt: skip
    assert [row["version"] for row in models.listed(database, name="sine")] == [3, 2, 1]
    with pytest.raises(models.NotThereError, match="no version 9"):
        models.promote(database, "sine", 9, "ann", "new", {})


def test_old_versions_are_let_go_of_and_never_who_serves_is_asked_or_was_before(settings, database, monkeypatch):
    monkeypatch.setattr(retention, "TARGETS", sine.WHERE)
    asked_of_mlflow = []
    monkeypatch.setattr(
        record, "let_go", lambda _settings, _name, versions: (asked_of_mlflow.append(versions) or [], {})
    )
    few = settings.model_copy(update={"models_kept": 2})
    for n in range(9):
        keep(database, "archived", b"%d" % n)
    for version in (1, 2):
        models.promote(database, "sine", version, "ann", "it was better", {})
    for status in ("challenger", "archived", "archived"):
        keep(database, status, b"newer")
    said = pl.DataFrame({"name": ["sine"] * 3 + ["other"], "version": [2, 3, 3, 3], "quantile_50": [1.0] * 4}).cast(
        {"version": pl.Int32}
    )
    lake.write(settings, shadow.FORECASTS, said, "said")
    try:
        with connect(settings, Role.CONTROL) as control:
            found = retention.let_go(control, few, "upkeep")
            assert found["sine"].versions == [3, 4, 5, 6, 7, 8, 9]
            assert (found["sine"].shadow_rows, asked_of_mlflow) == (2, [[3, 4, 5, 6, 7, 8, 9]])
            assert retention.let_go(control, few, "upkeep") == {}
        the_job_tells_of_files_that_stay(settings, monkeypatch)
        with connect(settings, Role.CONTROL) as control:
            with pytest.raises(models.ModelError, match="sine 5 is too old: its bytes were let go of"):
                models.promote(control, "sine", 5, "ann", "the good old times", {})
            assert models.roll_back(control, "sine", "ann", "worse") == (2, 1)
        with lake.attach(settings, read_only=True) as attached:
            left = attached.execute(f"select name, version from lake.{shadow.FORECASTS} order by all").fetchall()
        assert left == [("other", 3), ("sine", 2)]
    finally:
        with lake.attach(settings) as attached:
            attached.execute(f"drop table if exists lake.{shadow.FORECASTS}")
    whole = "select version from models where is_whole and is_kept order by 1"
    assert [row[0] for row in database.execute(whole)] == [1, 2, 10, 11, 12]
    action = "select detail from audit_log where action = 'model.let_go'"
    assert database.execute(action).fetchall() == [({"versions": [3, 4, 5, 6, 7, 8, 9], "newest_kept": 2},)]


def the_job_tells_of_files_that_stay(settings, monkeypatch):
    """It goes on after a warning, and fails where nothing could be removed."""
    resources = {"platform": Platform(state_dir=str(settings.state_dir))}
    for went in ([4], []):
        monkeypatch.setattr(record, "let_go", lambda *_, went=went: (went, {3: "denied", 5: "away"}))
        with dg.build_op_context(resources=resources) as context:
            if went:
                let_go_of_old_models(context)
            else:
                with pytest.raises(dg.Failure, match="no file of an old version could be removed"):
                    let_go_of_old_models(context)
            told = context.get_output_metadata("result")["sine"].value
            assert (told["recorded"], told["why_not"]) == (went, "3: denied; 5: away")
