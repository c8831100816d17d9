"""Which state directory a PostgreSQL cluster outside it belongs to: root's clusters lie apart, where `nobody` may go.

A file in each says which the other is. A copy of a state directory never meets the original's cluster, what was removed takes
its cluster with it, and a state directory whose cluster is gone does not begin anew in silence.
"""

import secrets
import shutil
import tempfile
from pathlib import Path

from hcp_pipelines.domain.errors import StorageError

HOME_PREFIX = "hcp-"
STATE_ID = "postgres-id"
BELONGS_TO = "belongs-to"


def home_of(root: Path, state: Path) -> Path:
    """Where the cluster of a state directory lies: under a random name that it keeps, so that one made anew has another."""
    path = state / STATE_ID
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(8))
    return root / f"{HOME_PREFIX}{path.read_text().strip()}"


def refuse_a_copy(home: Path, state: Path) -> None:
    """Raise where the cluster is another state directory's, of which this one is a copy.

    Raises:
        StorageError: both are named.
    """
    try:
        other = Path((home / BELONGS_TO).read_text())
    except OSError:
        return
    if other != state and not (other.exists() and other.samefile(state)) and _is_of(home, other):
        raise StorageError(
            f"{state} is a copy of {other}, whose PostgreSQL data lie in {home} and would be shared: use {other}, or remove it "
            "first (docs/operators.md says how to back up and to restore)"
        )


def refuse_to_begin_anew(data: Path, state: Path) -> None:
    """Raise where a cluster would be made beside a lake that has data: the tables that tell what is in it are gone.

    Raises:
        StorageError: what is missing, and what to do.
    """
    if not (data / "PG_VERSION").exists() and any((state / "lake").rglob("*.parquet")):
        raise StorageError(
            f"PostgreSQL's data of {state} are not in {data}, but its lake is there: put them back from the backup "
            f"(docs/operators.md), or begin anew in another state directory"
        )


def belong(home: Path, state: Path) -> None:
    """Write down whose the cluster is; whatever stood there is replaced, not followed."""
    path = home / BELONGS_TO
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(str(state))


def remove_orphans(own: Path) -> None:
    """Remove clusters beside one's own whose state directory was removed or made anew."""
    for home in own.parent.glob(f"{HOME_PREFIX}*"):
        if home == own:  # its state directory may have been moved
            continue
        try:
            is_orphan = _is_orphan(home, Path((home / BELONGS_TO).read_text()))
        except OSError:
            continue
        if is_orphan:
            shutil.rmtree(home, ignore_errors=True)


def _is_orphan(home: Path, state: Path) -> bool:
    """Whether the state directory is not this cluster's; one on a disk that is away keeps its cluster."""
    try:
        return home.name != f"{HOME_PREFIX}{(state / STATE_ID).read_text().strip()}"
    except FileNotFoundError:
        is_gone = state.parent.is_dir() and not state.parent.is_mount()
        return is_gone or state.is_relative_to(tempfile.gettempdir())


def _is_of(home: Path, state: Path) -> bool:
    try:
        return home.name == f"{HOME_PREFIX}{(state / STATE_ID).read_text().strip()}"
    except OSError:
        return False
