"""Dagster's configuration and processes: what to write, what to start, in which order. Starting is the supervisor's.

Imports no dagster, so that whoever supervises doesn't pay for it. No password is in a written file: the storage's URL
comes by the environment.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.orchestration import probes
from hcp_pipelines.orchestration.dbt_project import ensure_manifest, lake_environment
from hcp_pipelines.orchestration.sockets import socket_path
from hcp_pipelines.orchestration.spreading import (
    QUEUE,
    RUN_SERVER,
    celery_environment,
    make_broker_tables,
    run_launcher,
)
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage.postgres import sqlalchemy_url

ROOT = Path(__file__).resolve().parents[2]
LOCATIONS = ("control", "analytics")
WEBSERVER = "dagster-webserver"
WEBSERVER_MODULE = "hcp_pipelines.orchestration.webserver"
DAEMON = "dagster-daemon"
CELERY_WORKER = "celery-worker"
LAUNCHER = "tick-launcher"


@dataclass(frozen=True)
class DagsterProcess:
    """One process of Dagster's part. Without a `probe` it writes `run/NAME.json` like our other daemons."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    after: tuple[str, ...] = ()
    probe: probes.Probe | None = None


def home(settings: Settings) -> Path:
    """DAGSTER_HOME."""
    return settings.at("dagster")


def code_server_name(location: str) -> str:
    """Process name of a location's code server."""
    return f"dagster-{location}"


def prepare(settings: Settings) -> Path:
    """Write the instance's files, parse the dbt project and make the broker's tables where needed; DAGSTER_HOME."""
    make_broker_tables(settings)
    written = write_instance(settings)
    ensure_manifest(settings, lake_environment(settings))
    return written.parent


def write_instance(settings: Settings, locations: Sequence[str] = LOCATIONS) -> Path:
    """Write dagster.yaml and workspace.yaml; the path of the former."""
    folder = home(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "dagster.yaml"
    path.write_text(yaml.safe_dump(instance_document(settings), sort_keys=False))
    workspace_path(settings).write_text(yaml.safe_dump(workspace_document(settings, locations), sort_keys=False))
    return path


def workspace_path(settings: Settings) -> Path:
    """The workspace file that webserver and daemon read."""
    return home(settings) / "workspace.yaml"


def workspace_document(settings: Settings, locations: Sequence[str] = LOCATIONS) -> dict[str, Any]:
    """The code locations as gRPC servers on unix sockets: half the memory of letting each reader start its own."""
    return {
        "load_from": [
            {"grpc_server": {"socket": str(socket_path(settings, name)), "location_name": name}} for name in locations
        ]
    }


def instance_document(settings: Settings) -> dict[str, Any]:
    """The content of dagster.yaml."""
    return {
        "storage": {"postgres": {"postgres_url": {"env": "HCP_DAGSTER_POSTGRES_URL"}}},
        "run_launcher": run_launcher(settings),
        "run_coordinator": {
            "module": "hcp_pipelines.orchestration.coordinator",
            "class": "TickFirstCoordinator",
            "config": {"max_concurrent_runs": 3, "dequeue_interval_seconds": 2},
        },
        "compute_logs": {
            "module": "hcp_pipelines.orchestration.compute_logs",
            "class": "FileComputeLogManager",
            "config": {"base_dir": str(home(settings) / "logs")},
        },
        "run_monitoring": {
            "enabled": True,
            "poll_interval_seconds": 5,
            "start_timeout_seconds": 180,
            "cancel_timeout_seconds": 60,
            "max_runtime_seconds": 4 * 3600,
        },
        "concurrency": {"pools": {"default_limit": 4, "granularity": "op"}},
        "sensors": {"use_threads": True, "num_workers": 4},
        "schedules": {"use_threads": True, "num_workers": 2},
        "retention": {
            "sensor": {"purge_after_days": {"skipped": 1, "success": 7, "started": 7, "failure": 30}},
            "schedule": {"purge_after_days": {"skipped": 1, "success": 30, "started": 30, "failure": 30}},
        },
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
    }


def process_commands(settings: Settings, locations: Sequence[str] = LOCATIONS) -> list[DagsterProcess]:
    """Everything to start, each after those it names: code servers, run server, webserver, daemon, launcher."""
    env = environment(settings)
    servers = tuple(code_server_name(name) for name in locations)
    workspace = ("-w", str(workspace_path(settings)))
    web = (sys.executable, "-m", WEBSERVER_MODULE, "-h", "127.0.0.1", "-p", str(settings.dagster_port))
    return [
        *(_code_server(settings, name, env) for name in locations),
        DagsterProcess(
            RUN_SERVER,
            (sys.executable, "-m", "hcp_pipelines.orchestration.run_server"),
            env | {"HCP_PROCESS_NAME": RUN_SERVER, "OPENBLAS_NUM_THREADS": "1"},
            after=("postgres",),
            probe=probes.run_server(socket_path(settings, RUN_SERVER)),
        ),
        DagsterProcess(
            WEBSERVER, (*web, *workspace), env, after=servers, probe=probes.webserver(settings.dagster_port, locations)
        ),
        DagsterProcess(
            DAEMON,
            (sys.executable, "-m", "dagster._daemon", "run", *workspace),
            env,
            after=servers,
            probe=probes.daemon(settings.dagster_port),
        ),
        DagsterProcess(
            LAUNCHER,
            (sys.executable, "-m", "hcp_pipelines.orchestration.launcher"),
            env | {"HCP_PROCESS_NAME": LAUNCHER},
            after=("postgres",),
        ),
    ]


def celery_worker(settings: Settings, name: str = CELERY_WORKER, runs: int = 1) -> DagsterProcess:
    """A worker that takes `runs` at once, each in a process of its own that ends with it.

    Raises:
        ConfigError: the platform's runs don't go to workers.
    """
    if settings.executor != "celery":
        raise ConfigError(f"HCP_EXECUTOR={settings.executor}: a worker takes runs only with HCP_EXECUTOR=celery")
    argv = (
        *(sys.executable, "-m", "celery", "-A", "hcp_pipelines.orchestration.celery_app", "worker"),
        *("-Q", QUEUE, "-n", f"{name}@%h", "--concurrency", str(runs), "--max-tasks-per-child", "1"),
        *("--prefetch-multiplier", "1", "--loglevel", "info", "--without-gossip", "--without-mingle"),
    )
    env = environment(settings) | {"HCP_PROCESS_NAME": name}
    return DagsterProcess(name, argv, env, after=("postgres",), probe=probes.broker(env["HCP_CELERY_BROKER"]))


def environment(settings: Settings) -> dict[str, str]:
    """The environment of every Dagster process, run workers included."""
    return child_environment(
        settings,
        **lake_environment(settings),
        **celery_environment(settings),
        DAGSTER_HOME=str(home(settings)),
        HCP_DAGSTER_POSTGRES_URL=storage_url(settings),
        PYTHONPATH=str(ROOT),
        PYTHONUNBUFFERED="1",
        DAGSTER_DISABLE_TELEMETRY="1",
        DAGSTER_GRPC_TIMEOUT_SECONDS="180",  # on a busy machine a run takes more than the usual minute to start, and was failed
        DBT_SEND_ANONYMOUS_USAGE_STATS="false",
    )


def storage_url(settings: Settings) -> str:
    """URL of Dagster's own database, whose commits don't wait for the disk.

    A crash of the server's machine may lose the last moments of run history (run monitoring then fails those runs),
    never a policy, which is in another database.
    """
    url = sqlalchemy_url(settings)
    return f"{url}{'&' if '?' in url else '?'}options=-csynchronous_commit%3Doff"


def _code_server(settings: Settings, location: str, env: Mapping[str, str]) -> DagsterProcess:
    path = socket_path(settings, location)
    argv = (
        *(sys.executable, "-m", "dagster", "api", "grpc"),
        *("-m", f"hcp_pipelines.definitions.{location}", "-d", str(ROOT)),
        *("-s", str(path), "--location-name", location, "--log-level", "warning"),
    )
    return DagsterProcess(code_server_name(location), argv, env, after=("postgres",), probe=probes.code_server(path))
