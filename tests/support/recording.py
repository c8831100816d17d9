"""`python -m tests.support.recording STATE_DIR`: what is recorded in MLflow by a process that no test runner has touched.

MLflow calls nobody where it sees a test runner, whatever it is told. Prints what it saw as JSON.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hcp_pipelines.forecasting.model_file import digest_of
from hcp_pipelines.orchestration.training import record
from hcp_pipelines.orchestration.training.record import MODEL_FILE, Recording
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import models, object_store
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role
from tests.support.object_store import BUCKET, KEY_ID, SECRET
from tests.support.object_store import object_store as store_of_s3

AT = datetime(2025, 5, 1, tzinfo=UTC)
RUNS = """
    select r.artifact_uri, r.status, p.value, m.value
    from runs r join params p using (run_uuid) join metrics m using (run_uuid)
    where exists (select from tags t where (t.run_uuid, t.key, t.value) = (r.run_uuid, 'hcp.digest', 'abc'))"""
ALIASES = """
    select a.alias, t.value from registered_model_aliases a
    join model_version_tags t on t.name = a.name and t.version = a.version and t.key = 'hcp.version'
    where a.name = 'sine' order by 1"""


def keep(connection, status, content):
    """Keep a version of `sine`."""
    model = models.Kept("sine", digest_of(content), content, AT, AT, {})
    return models.keep(connection, model, status, "test", "test")


def main(settings):
    """All of it; the calls of Python's sockets to others are counted throughout."""
    calls = []
    watched = ("socket.connect", "socket.getaddrinfo")
    sys.addaudithook(lambda event, args: calls.append(f"{event} {args[1:]}") if event in watched else None)
    seen = {"imported_early": "mlflow" in sys.modules}
    first = Recording("sine", 1, {"days": 90}, {"pinball": 0.25}, {"hcp.digest": "abc"}, {MODEL_FILE: b"kept"})
    seen["runs_of_one_version"] = len({record.record(settings, first) for _ in range(2)})
    import mlflow.telemetry

    seen["telemetry"] = str(mlflow.telemetry.get_telemetry_client())
    with connect(settings, Role.MLFLOW, Database.MLFLOW) as mlflow_rows, connect(settings, Role.CONTROL) as control:
        [(uri, seen["status"], seen["days"], seen["pinball"])] = mlflow_rows.execute(RUNS).fetchall()
        seen["file"] = Path(unquote(urlsplit(uri).path), MODEL_FILE).read_text()
        keep(control, "champion", b"one")
        keep(control, "challenger", b"two")
        record.record(settings, Recording("sine", 2, {}, {}, {}))
        steps = (
            lambda: None,
            lambda: None,
            lambda: models.promote(control, "sine", 2, "test", "test", {}),
            lambda: keep(control, "champion", b"never recorded"),
        )
        seen["followed"] = []
        for step in steps:
            step()
            told = record.follow_table(settings, control, "sine")
            seen["followed"].append((told, mlflow_rows.execute(ALIASES).fetchall()))
        gone = [record.let_go(settings, "sine", {1}) for _ in range(2)]
        seen["let_go"] = [*gone, Path(unquote(urlsplit(uri).path), MODEL_FILE).exists()]
        seen["let_go_in_part"] = in_part(settings, mlflow_rows)
        seen["scores_stay"] = mlflow_rows.execute(RUNS).fetchone()[3]
    seen["calls"] = list(calls)
    seen["stored"] = in_a_store(settings)
    sys.stdout.write(json.dumps(seen))


def in_part(settings, mlflow_rows):
    """What of three versions is let go of, the first without a run, the second with a folder for a file; and whose files stay."""
    files = {}
    for version in (5, 6, 7):
        run = record.record(settings, Recording("sine", version, {}, {}, {}, {MODEL_FILE: b"kept"}))
        [(uri,)] = mlflow_rows.execute("select artifact_uri from runs where run_uuid = %s", [run]).fetchall()
        files[version] = Path(unquote(urlsplit(uri).path), MODEL_FILE)
        if version == 5:  # as `mlflow gc` leaves it
            mlflow_rows.execute("delete from tags where run_uuid = %s", [run])
            mlflow_rows.execute("delete from runs where run_uuid = %s", [run])
    files[6].unlink()
    files[6].mkdir()
    gone, why_not = record.let_go(settings, "sine", {5, 6, 7})
    return [gone, list(why_not), [version for version, file in files.items() if file.exists()]]


def in_a_store(settings):
    """What lies in an S3 store for a run whose files go there."""
    with store_of_s3() as endpoint:
        keys = {"lake_s3_endpoint": endpoint, "lake_s3_key_id": KEY_ID, "lake_s3_secret": SECRET}
        remote = Settings(state_dir=settings.state_dir, mlflow_artifacts=f"s3://{BUCKET}/models", **keys)
        run = record.record(remote, Recording("elsewhere", 1, {}, {}, {}, {MODEL_FILE: b"kept there"}))
        path = f"{BUCKET}/models/elsewhere/{run}/artifacts/{MODEL_FILE}"
        with object_store.filesystem(remote).open_input_stream(path) as file:
            stored = file.read().decode()
        record.let_go(remote, "elsewhere", {1})
        return [stored, object_store.filesystem(remote).get_file_info(path).type.name]


if __name__ == "__main__":
    main(Settings(state_dir=Path(sys.argv[1])))
