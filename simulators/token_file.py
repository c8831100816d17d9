"""The token of a simulated service, from the file that its configuration names."""

from pathlib import Path

from simulators.settings import WorldConfigError


def read_token(service: str, path: Path | None) -> str:
    """What the file holds; empty where none is named.

    Raises:
        WorldConfigError: the file can't be read or is empty.
    """
    if path is None:
        return ""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{service}: token_file {path} can't be read ({error}); write a token into it"
        raise WorldConfigError(message) from error
    if not token:
        raise WorldConfigError(f"{service}: token_file {path} is empty; write a token into it")
    return token
