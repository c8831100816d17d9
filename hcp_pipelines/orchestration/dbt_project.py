"""The dbt project: where it is, what its profile needs, and the manifest that the analytics location loads.

`dbt parse` needs no database. Everything dbt writes goes below the state directory, never into the repository.
Imports neither dagster nor dbt.
"""

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage import object_store
from hcp_pipelines.storage.postgres import dsn
from hcp_pipelines.storage.roles import Database, Role

PROJECT = Path(__file__).resolve().parents[2] / "dbt"
PARSE_TIMEOUT_S = 180.0


@cache
def project_number(name: str) -> float:
    """A number among the project's `vars`, which Python judges by as the models do."""
    return float(yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"][name])


def target_dir(settings: Settings) -> Path:
    """Where dbt puts the manifest and what it compiles."""
    return settings.at("dbt", "target")


def manifest_path(settings: Settings) -> Path:
    """The manifest that dagster-dbt reads."""
    return target_dir(settings) / "manifest.json"


def lake_environment(settings: Settings) -> dict[str, str]:
    """What dbt's profile reads from the environment: how to attach the lake as its writer.

    dbt prints the connection string when it can't attach; so the password stays in a file that only we can read.
    """
    parts = conninfo_to_dict(dsn(settings, Role.LAKE_WRITER, Database.LAKE))
    passfile = settings.at("secrets", "lake_writer.pgpass")
    _write_private(passfile, f"*:*:*:{parts['user']}:{parts.pop('password')}\n")
    return {
        "HCP_LAKE_ATTACH": f"ducklake:postgres:{make_conninfo('', **parts, passfile=str(passfile))}",
        "HCP_LAKE_DATA_PATH": object_store.data_path(settings),
        **_store_environment(settings),
        "DBT_TARGET_PATH": str(target_dir(settings)),
        "DBT_LOG_PATH": str(settings.at("logs", "dbt")),
    }


def target_name(settings: Settings) -> str:
    """The profile's target: the lake's files in a folder, in a store with keys that are given, or with the machine's own."""
    if not object_store.is_remote(settings):
        return "lake"
    return "lake_s3" if settings.lake_s3_key_id else "lake_s3_own_keys"


def _store_environment(settings: Settings) -> dict[str, str]:
    """The store for dbt, which hides what has its own prefix for secrets from its logs."""
    if not object_store.is_remote(settings):
        return {}
    told = {f"HCP_LAKE_STORE_{name.upper()}": value for name, value in object_store.place(settings).items()}
    told["HCP_LAKE_STORE_CA_FILE"] = str(settings.lake_s3_ca_file or "")
    keys = object_store.keys(settings) if settings.lake_s3_key_id else {}
    return told | {f"DBT_ENV_SECRET_LAKE_{name.upper()}": value for name, value in keys.items()}


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def dbt_executable() -> str:
    """The dbt of this Python environment."""
    return str(Path(sys.executable).with_name("dbt"))


def is_stale(settings: Settings) -> bool:
    """Whether a file of the project is newer than the manifest, or there is none."""
    manifest = manifest_path(settings)
    if not manifest.exists():
        return True
    made_at = manifest.stat().st_mtime
    return any(p.stat().st_mtime > made_at for p in PROJECT.rglob("*") if p.suffix in (".sql", ".yml"))


def ensure_manifest(settings: Settings, environment: Mapping[str, str] | None = None) -> Path:
    """Parse the project if its manifest is missing or old; the manifest's path.

    With the `environment` of the builds to come (`lake_environment`) the first of them need not parse it again.

    Raises:
        ConfigError: the project does not parse; the message holds dbt's last words.
    """
    if is_stale(settings):
        argv = [
            *(dbt_executable(), "--quiet", "parse"),
            *("--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target", target_name(settings)),
            *("--target-path", str(target_dir(settings)), "--log-path", str(settings.at("logs", "dbt"))),
        ]
        env = child_environment(settings, **(environment or {}), DBT_SEND_ANONYMOUS_USAGE_STATS="false")
        done = subprocess.run(
            argv, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=PARSE_TIMEOUT_S, check=False
        )
        if done.returncode != 0 or not manifest_path(settings).exists():
            raise ConfigError(f"dbt parse of {PROJECT} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return manifest_path(settings)
