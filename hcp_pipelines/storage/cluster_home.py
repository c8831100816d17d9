"""Which state directory a PostgreSQL cluster outside it belongs to: root's clusters lie apart, where `nobody` may go.

A file in each says which the other is. A copy of a state directory never meets the original's cluster, and a state directory
whose cluster is gone does not begin anew in silence. A cluster whose state directory is not to be found is kept: that one may
have been moved, or be on a disk that is away. Only those of the temporary directory, as tests make them, are thrown away.
"""

import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hcp_pipelines.domain.errors import StorageError

HOME_PREFIX = "hcp-"
STATE_ID = "postgres-id"
BELONGS_TO = "belongs-to"
_OF_OURS = re.compile(HOME_PREFIX + "[0-9a-f]{16}")  # a copy that somebody made beside is none


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
    if other != state and not (other.exists() and other.samefile(state)) and is_here(home, other):
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


def is_of(home: Path, state: Path) -> bool:
    """Whether the cluster in a home is this state directory's, where that stood when it was last started."""
    try:
        other = Path((home / BELONGS_TO).read_text())
        return is_here(home, state) and other.samefile(state)
    except OSError:
        return False


def remove_rubbish(own: Path) -> None:
    """Remove clusters beside one's own of what was in the temporary directory, and is gone or was made anew."""
    for home, state in strays(own.parent):
        if home != own and is_rubbish(home, state):  # one's own may have been moved
            shutil.rmtree(home, ignore_errors=True)


def strays(root: Path) -> Iterator[tuple[Path, Path]]:
    """Clusters whose state directory is not where it was when they last ran, or has another one by now; and where it was."""
    for home in sorted(root.glob(f"{HOME_PREFIX}*")):
        try:
            state = Path((home / BELONGS_TO).read_text())
        except OSError:
            continue
        if not is_here(home, state):
            yield home, state


def is_rubbish(home: Path, state: Path) -> bool:
    """Whether a stray cluster is nobody's loss: what was in the temporary directory is thrown away with it."""
    return bool(_OF_OURS.fullmatch(home.name)) and state.is_relative_to(Path(tempfile.gettempdir()).resolve())


def is_here(home: Path, state: Path) -> bool:
    """Whether a state directory names this cluster as its own, as a copy of it does, too."""
    try:
        return home.name == f"{HOME_PREFIX}{(state / STATE_ID).read_text().strip()}"
    except OSError:
        return False
