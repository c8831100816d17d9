"""Where runs go that are not ticks: what dagster.yaml says of it, and Celery's broker. Imports no dagster.

Unless told otherwise the broker is a pair of tables in Dagster's database (kombu's SQLAlchemy transport): enough for a few
workers, which ask it once a second each. For more there are RabbitMQ and Redis. A run's result is there in any case.
"""

from typing import Any

import yaml

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.orchestration.sockets import socket_path
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect, sqlalchemy_url
from hcp_pipelines.storage.roles import Database, Role

LAUNCHERS = "hcp_pipelines.orchestration.run_launcher"
QUEUE = "dagster"
RUN_SERVER = "run-server"


def run_launcher(settings: Settings) -> dict[str, Any]:
    """The `run_launcher` of dagster.yaml.

    Raises:
        ConfigError: HCP_EXECUTOR=k8s without a file that says how jobs are made.
    """
    config: dict[str, Any] = {"socket": str(socket_path(settings, RUN_SERVER))}
    if settings.executor == "in_process":
        return {"module": LAUNCHERS, "class": "WarmRunLauncher", "config": config}
    elsewhere = _celery() if settings.executor == "celery" else _kubernetes(settings)
    return {"module": LAUNCHERS, "class": "SpreadingRunLauncher", "config": config | {"elsewhere": elsewhere}}


def celery_environment(settings: Settings) -> dict[str, str]:
    """Broker and results for whoever sends or takes Celery tasks; they hold passwords, so they are in no written file."""
    if settings.executor != "celery":
        return {}
    results = sqlalchemy_url(settings)
    return {"HCP_CELERY_BROKER": _broker(settings) or f"sqla+{results}", "HCP_CELERY_RESULTS": f"db+{results}"}


def make_broker_tables(settings: Settings) -> None:
    """Make the broker's tables, where they are Postgres's: workers that start at once would trip over each other's."""
    if settings.executor != "celery" or _broker(settings):
        return
    from kombu import Connection, Queue
    from sqlalchemy.pool import NullPool

    with connect(settings, Role.DAGSTER, Database.DAGSTER) as holder:
        holder.execute("select pg_advisory_lock(hashtext('celery broker'))")
        once = {"poolclass": NullPool}
        with Connection(f"sqla+{sqlalchemy_url(settings)}", transport_options=once) as connection:
            channel = connection.default_channel
            Queue(QUEUE, channel=channel).queue_declare()
            channel.session.close()  # which closing the channel leaves open


def _broker(settings: Settings) -> str:
    path = settings.celery_broker_file
    if path is None:
        return ""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigError(f"HCP_CELERY_BROKER_FILE={path}: {error.strerror}") from None


def _celery() -> dict[str, Any]:
    config = {
        "default_queue": QUEUE,
        "broker": {"env": "HCP_CELERY_BROKER"},
        "backend": {"env": "HCP_CELERY_RESULTS"},
    }
    return {"module": "dagster_celery.launcher", "class": "CeleryRunLauncher", "config": config}


def _kubernetes(settings: Settings) -> dict[str, Any]:
    path = settings.k8s_run_file
    if path is None:
        raise ConfigError("HCP_EXECUTOR=k8s needs HCP_K8S_RUN_FILE: how jobs are made (docs/scaling.md)")
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"HCP_K8S_RUN_FILE={path}: {error}") from None
    return {"module": "dagster_k8s.launcher", "class": "K8sRunLauncher", "config": config}
