"""`make mlflow-ui`: MLflow's own pages over the platform's record, on loopback. MLflow is in an environment of its own.

The database's URL and the store's keys come by the environment: arguments are for everybody to read.
"""

import os
from pathlib import Path

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings, child_environment, keep_mlflow_at_home
from hcp_pipelines.storage import object_store
from hcp_pipelines.storage.postgres import connect, sqlalchemy_url
from hcp_pipelines.storage.roles import Database, Role

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / ".venv-mlflow" / "bin" / "mlflow"
PORT = 5000


def environment(settings: Settings) -> dict[str, str]:
    """What MLflow's server is told: where the record and its files are; nothing of the platform's."""
    keep_mlflow_at_home()
    told = {"MLFLOW_BACKEND_STORE_URI": sqlalchemy_url(settings, Role.MLFLOW)}
    if settings.mlflow_artifacts and settings.lake_s3_key_id:
        keys = object_store.keys(settings)
        told |= {"AWS_ACCESS_KEY_ID": keys["key_id"], "AWS_SECRET_ACCESS_KEY": keys["secret"]}
    if settings.mlflow_artifacts and settings.lake_s3_endpoint:
        told |= {"MLFLOW_S3_ENDPOINT_URL": settings.lake_s3_endpoint}
    if settings.lake_s3_ca_file:
        told |= {"AWS_CA_BUNDLE": str(settings.lake_s3_ca_file)}
    ours = child_environment(settings, **told)
    return {name: value for name, value in ours.items() if not name.startswith("HCP_")}


def main() -> None:
    """Become MLflow's server.

    Raises:
        ConfigError: it is not installed.
        StorageError: the platform does not run.
    """
    settings = Settings.load()
    if not PROGRAM.exists():
        raise ConfigError(f"{PROGRAM} is missing: `make mlflow-ui` installs it")
    connect(settings, Role.MLFLOW, Database.MLFLOW).close()
    argv = [str(PROGRAM), "server", "--host", "127.0.0.1", "--port", str(PORT), "--workers", "1"]
    os.execvpe(argv[0], argv, environment(settings))  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
