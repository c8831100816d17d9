"""A service account's token: in a file of our own, closed to others, or in the projected volume that a kubelet mounts into a pod.

A kubelet writes tokens for all to read (0644), and only the pod sees them. Such a volume is a mount of its own in which `NAME` is
a link to `..data/NAME`, and `..data` one to a directory `..TIME` beside it; nothing else is taken for one.
"""

import os
import stat
from pathlib import Path

from pydantic import SecretStr

from hcp_pipelines.domain.errors import ConfigError, DeviceUnreachableError

DATA = "..data"  # the link that a kubelet turns to the newest version
MAX_BYTES = 64 * 1024
_OTHERS, _OTHERS_WRITE = 0o077, 0o022


class TokenFile:
    """A service account's token. What mounts it rotates it: the file is read again, and looked at again, for each call."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Whether the token may be used as it is now.

        Raises:
            ConfigError: it can't be read, is empty, or others may read or change it.
        """
        try:
            _read(self._path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"token_file {self._path}: {error}") from None

    def read(self) -> SecretStr:
        """The token as it is now.

        Raises:
            DeviceUnreachableError: as `check`.
        """
        try:
            return SecretStr(_read(self._path))
        except (OSError, ValueError) as error:
            raise DeviceUnreachableError(f"token_file {self._path}: {error}") from None


def _read(path: Path) -> str:
    """The token; who may do what is asked of the very file that is read.

    Raises:
        OSError: it can't be read.
        ValueError: others may read or change it, or there is no token in it.
    """
    own = _projected(path) if path.is_symlink() else path
    handle = os.open(own, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("not a file")
        if mode & _OTHERS_WRITE:
            raise ValueError("others may change it; chmod 600")
        if own is path and mode & _OTHERS:
            raise ValueError("others may read it; chmod 600")
        token = os.read(handle, MAX_BYTES).decode().strip()
    finally:
        os.close(handle)
    if not token or not token.isascii() or not token.isprintable():
        raise ValueError("no token in it")
    return token


def _projected(link: Path) -> Path:
    """The file behind a link in a kubelet's projected volume.

    Raises:
        OSError: it can't be looked at.
        ValueError: the link is not one of those, or others may turn it elsewhere.
    """
    volume = link.parent
    if link.readlink() != Path(DATA, link.name):
        raise ValueError("a link: name the file itself")
    if not os.path.ismount(volume):
        raise ValueError(f"{volume} looks like a pod's projected volume and is no mount: name the file itself")
    version = (volume / DATA).readlink()
    if len(version.parts) != 1 or not version.name.startswith("..") or version.name == "..":
        raise ValueError(f"{DATA} leads out of {volume}")
    mounted, kept = volume.stat().st_mode, (volume / version).lstat().st_mode
    if not stat.S_ISDIR(kept) or kept & _OTHERS_WRITE or (mounted & _OTHERS_WRITE and not mounted & stat.S_ISVTX):
        raise ValueError(f"others may put another file into {volume}")
    return volume / version / link.name
