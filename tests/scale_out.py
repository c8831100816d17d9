"""`make scale-out`: the platform's parts elsewhere, for a longer look than the test has; prints what it measured.

Somebody else's PostgreSQL over TCP, the lake in an S3 server, two Celery workers that load the analytics location itself.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from hcp_pipelines.orchestration import instance
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Database, Role
from hcp_pipelines.supervisor.processes import ROOT
from tests.support.object_store import BUCKET, KEY_ID, SECRET, object_store
from tests.support.site_postgres import QUOTED, SUPERUSER, site_postgres

ROWS = 1_000_000
COMMITS = 100
ANALYTICS = "hcp_pipelines.definitions.analytics"


def main() -> None:
    """Set up, measure, tell."""
    parser = argparse.ArgumentParser(prog="make scale-out")
    parser.add_argument("--runs", type=int, default=8)
    runs = parser.parse_args().runs
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory(prefix="hcp-scale-") as folder,
        site_postgres() as port,
        object_store() as endpoint,
    ):
        here = settings_for(Path(folder), port)
        secret = Path(folder) / "secret"
        secret.write_text(SECRET)
        there = here.model_copy(update={
            "lake_url": f"s3://{BUCKET}/hcp", "lake_s3_endpoint": endpoint, "lake_s3_key_id": KEY_ID,
            "lake_s3_secret_file": secret, "executor": "celery",
        })  # fmt: skip
        bootstrap(there)
        tell("the lake in S3", lake_figures(there))
        tell("Celery", celery_figures(there, runs, Path(folder)))
        with connect(here, Role.LAKE_WRITER, Database.LAKE) as connection:
            connection.execute("drop schema public cascade; create schema public")
        bootstrap(here)
        tell("the lake in a folder", lake_figures(here))


def settings_for(folder: Path, port: int) -> Settings:
    """A platform of the real world on that server."""
    url = f"postgresql://{SUPERUSER}:{QUOTED}@127.0.0.1:{port}/postgres"
    return Settings(state_dir=folder / "state", world="real", database_url=url)


def tell(what: str, figures: dict[str, float]) -> None:
    """A line a figure."""
    sys.stdout.write(f"{what}\n" + "".join(f"  {name}: {value:,.2f}\n" for name, value in figures.items()))
    sys.stdout.flush()


def lake_figures(settings: Settings) -> dict[str, float]:
    """Rows a second written and read back, and what a small commit adds to the catalogue."""
    rng = np.random.default_rng(7)
    rows = pl.DataFrame({"slot": np.arange(ROWS), "power_kw": rng.normal(3.5, 0.1, ROWS), "state": np.full(ROWS, 3)})
    began = time.monotonic()
    for number in range(3):
        lake.write(settings, "raw.measured", rows, f"batch-{number}")
    wrote_s = time.monotonic() - began
    with lake.attach(settings, Role.LAKE_READER, read_only=True) as connection:
        began = time.monotonic()
        connection.execute("select sum(power_kw), count(distinct slot) from lake.raw.measured").fetchall()
        read_s = time.monotonic() - began
    before = catalogue_bytes(settings)
    began = time.monotonic()
    for number in range(COMMITS):
        lake.write(settings, "raw.measured", rows.head(1000), f"small-{number}")
    return {
        "rows written a second": 3 * ROWS / wrote_s,
        "rows read a second": 3 * ROWS / read_s,
        "small commits a second": COMMITS / (time.monotonic() - began),
        "catalogue bytes a commit": (catalogue_bytes(settings) - before) / COMMITS,
    }


def catalogue_bytes(settings: Settings) -> int:
    """Size of the lake's catalogue in Postgres."""
    with connect(settings, Role.LAKE_WRITER, Database.LAKE) as connection:
        row = connection.execute("select pg_database_size(current_database())").fetchone()
    assert row
    return int(row[0])


def celery_figures(settings: Settings, runs: int, folder: Path) -> dict[str, float]:
    """Seconds that runs of the lake's maintenance take with two workers, and how they were shared."""
    instance.prepare(settings)
    logs = [folder / "worker-1", folder / "worker-2"]
    workers = []
    for path in logs:
        command = instance.celery_worker(settings, path.name)
        with path.open("wb") as log:
            workers.append(subprocess.Popen(command.argv, env=dict(command.env), cwd=ROOT, stdout=log, stderr=log))
    try:
        argv = [sys.executable, "-m", "tests.support.send_runs", ANALYTICS, "lake_maintenance_job", str(runs)]
        began = time.monotonic()
        env = instance.environment(settings)
        done = subprocess.run(
            argv, cwd=ROOT, env=env, input="go\n", capture_output=True, text=True, timeout=900, check=True
        )
        took_s = time.monotonic() - began
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(60)
    succeeded = sum(run["status"] == "SUCCESS" for run in json.loads(done.stdout)["runs"])
    shared = {f"runs of {path.name}": float(path.read_text().count("execute_job[")) / 2 for path in logs}
    return {"runs": runs, "succeeded": succeeded, "seconds in all, start of the sender included": took_s} | shared


if __name__ == "__main__":
    main()
