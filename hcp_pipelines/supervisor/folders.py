"""The folders of a platform, closed to others before anything is put into them."""

import os
import stat
from pathlib import Path

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings

FOLDERS = ("run", "logs", "edge", "world", "facilities", "secrets", "lake", "dagster", "dbt")


def prepare_folders(settings: Settings) -> None:
    """Create the state directory's folders and the socket directory, or close them: mode 0700.

    The state directory itself keeps its mode, since a person may have chosen one that holds other things too.

    Raises:
        ConfigError: the state directory can't be made; it, one of its folders or the socket directory is somebody else's, or
            others may write into the state directory: what we put there could be exchanged.
    """
    home = settings.at()
    _make(home)
    _refuse_foreign(home)
    if stat.S_IMODE(home.stat().st_mode) & 0o022:
        raise ConfigError(f"{home} can be written by others: chmod go-w {home}, or take another --state-dir")
    for name in FOLDERS:
        _close(settings.at() / name)
    _close(settings.socket_dir())


def _make(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} can't be made ({error.strerror}): take another --state-dir") from None


def _close(path: Path) -> None:
    _make(path)
    _refuse_foreign(path)
    path.chmod(0o700)


def _refuse_foreign(path: Path) -> None:
    seen = path.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
        raise ConfigError(f"{path} is not a folder of this account: remove it, or take another --state-dir")
