"""The record for ML engineers: each training as a run of MLflow with its files, each version of ours as one of its models.

It is a record alone: who serves is said by Postgres's `models`, and the aliases `champion` and `challenger` are made to follow.
MLflow takes seconds to import and is imported here, when something is to be recorded, and nowhere else.
"""

import tempfile
import warnings
from collections.abc import Collection, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import psycopg

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.settings import Settings, keep_mlflow_at_home
from hcp_pipelines.storage import models, object_store
from hcp_pipelines.storage.postgres import connect, sqlalchemy_url
from hcp_pipelines.storage.roles import Database, Role
from hcp_pipelines.storage.secrets import password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.tracking import MlflowClient

VERSION_TAG = "hcp.version"
GONE_TAG = "hcp.let_go"
FILES = MODEL_FILE, SKOPS_FILE, CARD_FILE = "model.npz", "model.skops", "card.html"
LONGEST_VALUE = 500  # characters of a parameter or tag that MLflow takes anywhere


@dataclass(frozen=True)
class Recording:
    """What is to be recorded of a version: texts, numbers, and files by name."""

    name: str
    version: int
    parameters: Mapping[str, object]
    scores: Mapping[str, float]
    tags: Mapping[str, object]
    files: Mapping[str, bytes] = field(default_factory=dict)


def record(settings: Settings, recording: Recording) -> str:
    """Record a version as a run and as a model of MLflow; the run's id. What is there already is not recorded again.

    Raises:
        StorageError: MLflow, its database or the store of its files refuses or is away.
    """
    with _client(settings) as client:
        known = _versions(client, recording.name)
        if recording.version in known:
            return str(known[recording.version].run_id)
        experiment = _experiment(client, settings, recording.name)
        tags = {name: _short(value) for name, value in {**recording.tags, VERSION_TAG: recording.version}.items()}
        run = client.create_run(experiment, run_name=f"{recording.name} {recording.version}", tags=tags)
        run_id = str(run.info.run_id)
        _log(client, run_id, recording)
        _put(settings, str(run.info.artifact_uri), recording.files)
        source = f"{run.info.artifact_uri}/{MODEL_FILE}"
        client.create_model_version(recording.name, source=source, run_id=run_id, tags=tags)
        client.set_terminated(run_id)
        return run_id


def follow(settings: Settings, name: str, champion: int | None, challenger: int | None) -> list[str]:
    """Make the aliases of a model what `models` says; what was changed. Versions that were never recorded have none.

    Raises:
        StorageError: MLflow or its database refuses or is away.
    """
    with _client(settings) as client:
        known = _versions(client, name)
        if not known:
            return []
        aliases = {key: str(value) for key, value in client.get_registered_model(name).aliases.items()}
        changed = []
        for alias, version in (("champion", champion), ("challenger", challenger)):
            wanted = str(known[version].version) if version in known else None
            if aliases.get(alias) == wanted:
                continue
            if wanted is None:
                client.delete_registered_model_alias(name, alias)
            else:
                client.set_registered_model_alias(name, alias, wanted)
            changed.append(f"{alias} is {version if wanted else 'nobody'}")
        return changed


def let_go(settings: Settings, name: str, versions: Collection[int]) -> tuple[list[int], dict[int, str]]:
    """Remove the files of versions: of which, those that had any; and why those stay that can't be removed.

    Parameters, scores and tags stay. Where files lie a version knows by itself: its run may be gone.

    Raises:
        StorageError: MLflow or its database refuses or is away, or the store of its files has no keys.
    """
    with _client(settings) as client:
        gone, why_not = [], {}
        for version, row in sorted(_versions(client, name).items()):
            if version not in versions or GONE_TAG in row.tags:
                continue
            try:
                _remove(settings, str(row.source).removesuffix(f"/{MODEL_FILE}"))
            except OSError as error:
                why_not[version] = str(error)
                continue
            client.set_model_version_tag(name, row.version, GONE_TAG, "their files were let go of")
            gone.append(version)
        return gone, why_not


def follow_table(settings: Settings, connection: "psycopg.Connection[Any]", name: str) -> str:
    """Make the aliases of a model follow `models`: what was done, or why it could not be; that fails nothing."""
    serving, asked = models.champion(connection, name), models.challenger(connection, name)
    try:
        changed = follow(settings, name, serving.version if serving else None, asked.version if asked else None)
    except StorageError as error:
        return f"aliases do not follow yet, the next training sees to it: {error}"
    return f"aliases: {', '.join(changed)}" if changed else "aliases are as they should be"


@contextmanager
def _client(settings: Settings) -> "Iterator[MlflowClient]":
    """MLflow on our database, asked nothing before that answers: it would try for minutes."""
    connect(settings, Role.MLFLOW, Database.MLFLOW).close()
    keep_mlflow_at_home()
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise StorageError(f"MLflow can't be loaded: {error}: `make setup` installs it") from error
    url = sqlalchemy_url(settings, Role.MLFLOW)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it uses of SQLAlchemy is deprecated
            yield MlflowClient(tracking_uri=url, registry_uri=url)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        text = str(error).strip().splitlines() or [repr(error)]
        raise StorageError(f"MLflow: {text[0].replace(password(settings, Role.MLFLOW), '…')}") from None


def _versions(client: "MlflowClient", name: str) -> dict[int, Any]:
    """MLflow's versions of a model by ours."""
    found = client.search_model_versions(f"name = '{name}'", max_results=1000)
    return {int(each.tags[VERSION_TAG]): each for each in found if VERSION_TAG in each.tags}


def _experiment(client: "MlflowClient", settings: Settings, name: str) -> str:
    """The experiment and the model of a name, made at their first use."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    client.create_registered_model(name)
    folder = (
        f"{settings.mlflow_artifacts}/{name}" if settings.mlflow_artifacts else settings.at("mlflow", name).as_uri()
    )
    return str(client.create_experiment(name, artifact_location=folder))


def _log(client: "MlflowClient", run_id: str, recording: Recording) -> None:
    from mlflow.entities import Metric, Param

    now_ms = int(SystemClock().real_now().timestamp() * 1000)
    scores = [Metric(name, value, now_ms, 0) for name, value in recording.scores.items()]
    client.log_batch(run_id, scores, [Param(name, _short(value)) for name, value in recording.parameters.items()])


def _put(settings: Settings, uri: str, files: Mapping[str, bytes]) -> None:
    """Write a run's files where MLflow looks for them. A store is written to with the lake's keys: MLflow would need boto3."""
    if not uri.startswith("s3://"):
        folder = Path(unquote(urlsplit(uri).path))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as fresh:
                fresh.write(content)
            Path(fresh.name).replace(folder / name)
        return
    store = object_store.filesystem(settings)
    for name, content in files.items():
        with store.open_output_stream(f"{uri.removeprefix('s3://')}/{name}") as stream:
            stream.write(content)


def _remove(settings: Settings, uri: str) -> None:
    """Remove a run's files; what is gone already is gone."""
    if uri.startswith("s3://"):
        store = object_store.filesystem(settings)
        for name in FILES:
            with suppress(FileNotFoundError):
                store.delete_file(f"{uri.removeprefix('s3://')}/{name}")
        return
    folder = Path(unquote(urlsplit(uri).path))
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _short(value: object) -> str:
    return str(value)[:LONGEST_VALUE]
