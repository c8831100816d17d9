"""The HTTP API as commands ask it: with the key of HCP_API_KEY_FILE, at HCP_API_URL or where the platform here has it."""

import json

from hcp_pipelines.client import Client, read_key
from hcp_pipelines.domain.errors import ConfigError, NotRunningError
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.lock import owner_pid

PATIENCE_S = 10.0  # somebody sits before it


def client_of(settings: Settings) -> Client:
    """The API.

    Raises:
        ConfigError: there is no key, or others may read it.
        NotRunningError: nothing says where it is.
    """
    if settings.api_key_file is None:
        raise ConfigError(
            "HCP_API_KEY_FILE is not set: a file (0600) with an API key, as POST /api/v1/auth/keys makes one (docs/api.md)"
        )
    return Client(settings.api_url or _running(settings), read_key(settings.api_key_file), PATIENCE_S)


def _running(settings: Settings) -> str:
    """Where the API of the platform on this state directory is."""
    if owner_pid(settings.at("run", "supervisor.lock")) is None:
        raise NotRunningError(f"No platform runs on {settings.state_dir}: start one, or say HCP_API_URL=https://HOST.")
    try:
        return str(json.loads(settings.at("run", "status.json").read_text())["urls"]["api.api"])
    except (OSError, ValueError, KeyError, TypeError):
        raise NotRunningError(
            f"The platform on {settings.state_dir} has no API up: HCP_API=on starts it with the platform, `hcp status` shows it."
        ) from None
