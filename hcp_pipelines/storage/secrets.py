"""Generated secrets: a file each in `.hcp/secrets`, readable by the owner alone. Never logged."""

import os
import secrets
import stat
import tempfile
from pathlib import Path

from hcp_pipelines.domain.errors import ConfigError, StorageError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.roles import Role


def secrets_dir(settings: Settings) -> Path:
    """The folder of the password files, created with mode 0700."""
    folder = settings.secrets_dir or settings.at("secrets")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def password(settings: Settings, role: Role, *, create: bool = False) -> str:
    """The role's password; with `create` it is generated at first use.

    Raises:
        StorageError: the file is missing.
    """
    path = secrets_dir(settings) / role.value
    try:
        return path.read_text()
    except FileNotFoundError:
        if not create:
            raise StorageError(f"{path} is missing: the platform has not been set up here; `hcp up` does it") from None
    create_secret(path, secrets.token_urlsafe(24))
    return path.read_text()


def gpu_agents_token_file(settings: Settings) -> Path:
    """The file with the token of the simulated GPU nodes' agents, generated at first use."""
    path = secrets_dir(settings) / "gpu_agents_token"
    if not path.exists():
        create_secret(path, secrets.token_urlsafe(32))
    return path


def own_secret(settings: Settings, name: str, fresh: str) -> str:
    """The text of a secret that is made at first use, as `fresh`.

    In a folder that HCP_SECRETS_DIR names, a container platform has put it: who may read it, and whether it is a link within that
    folder, is as the platform mounts it.

    Raises:
        ConfigError: others may read it, it is no text, it lies elsewhere, or it can't be made.
    """
    folder = secrets_dir(settings)
    path = folder / name
    if not path.is_symlink() and not path.exists():
        try:
            create_secret(path, fresh)
        except OSError as error:
            raise ConfigError(f"{path} is missing, and can't be made there: {error}") from None
    if settings.secrets_dir is None:
        return read_private(path)
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            raise ConfigError(f"{path}: this leads out of HCP_SECRETS_DIR={folder}")
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: a secret is a file of text: {error}") from None


def read_private(path: Path) -> str:
    """The text of a secret's file.

    Raises:
        ConfigError: it is a link or no file, others may read it, or it is no text.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{path}: this is no file")
            if mode & 0o077:
                raise ConfigError(f"{path}: others may read this secret: chmod 600 {path}")
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: a secret is a file of text, and no link to one: {error}") from None


def create_secret(path: Path, value: str) -> None:
    """The whole file or nothing, with mode 0600."""
    fd, fresh = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(fd, "w") as file:
        file.write(value)
    Path(fresh).replace(path)
