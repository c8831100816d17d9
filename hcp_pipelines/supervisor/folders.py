"""The folders of a platform, closed to others before anything is put into them."""

import os
import stat
from pathlib import Path

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings


def prepare_folders(settings: Settings) -> None:
    """Create the state directory's folders and the socket directory, mode 0700.

    Raises:
        ConfigError: the socket directory exists and is not ours, or is open to others.
    """
    for name in ("", "run", "logs", "edge", "world", "facilities"):
        settings.at(name).mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_foreign_folder(settings.socket_dir())


def refuse_foreign_folder(path: Path) -> None:
    """Create `path` with mode 0700, or raise when somebody else made it or may enter it."""
    path.mkdir(mode=0o700, exist_ok=True)
    seen = path.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
        raise ConfigError(f"{path} is not a folder of ours: remove it, or take a shorter --state-dir")
    if stat.S_IMODE(seen.st_mode) & 0o077:
        raise ConfigError(f"{path} is open to others (mode {stat.S_IMODE(seen.st_mode):o}): chmod 700 {path}")
