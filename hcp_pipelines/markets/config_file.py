"""A configuration in YAML that a setting names, read and checked whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import ValidationError

from hcp_pipelines.domain.errors import ConfigError

Checked = TypeVar("Checked")


class ConfigFile(NamedTuple):
    """Which setting names such files, how long they may be, and where they are described."""

    setting: str
    most_chars: int
    help_text: str


def read_config(kind: ConfigFile, path: Path, check: Callable[[Any], Checked]) -> Checked:
    """What `check` makes of the document in a file.

    Raises:
        ConfigError: it can't be read, is too long or not YAML, or a field is wrong.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{kind.setting}={path}: can't be read ({type(error).__name__}). {kind.help_text}") from error
    if len(text) > kind.most_chars:
        raise ConfigError(f"{path}: {len(text)} characters; the limit is {kind.most_chars}. {kind.help_text}")
    try:
        return check(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML: {str(error)[:200]}. {kind.help_text}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"{path}: {where}: {first['msg']}. {kind.help_text}") from error
