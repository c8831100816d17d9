"""Who may have a token of 3.1, and what a request for one says of who sends it. No tokens.

Source: RFC 6749, 2.3.1 (a client's secret by HTTP Basic, or in the form) and 5.2 (errors).
"""

import base64
import binascii
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote_plus

from simulators.settings import WorldConfigError

MAX_FIELDS: Final = 20


class NoTokenError(Exception):
    """No token is handed out; `error` is the code of RFC 6749."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


def clients_in(path: Path | None) -> dict[str, str]:
    """Secrets by client id.

    Raises:
        WorldConfigError: the file can't be read, or a line is no `CLIENT_ID:SECRET`.
    """
    if path is None:
        return {}
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        message = f"openadr: client_file {path} can't be read ({error})"
        raise WorldConfigError(message) from error
    pairs = [line.partition(":") for line in lines]
    if not pairs or not all(client and secret for client, _, secret in pairs):
        message = f"openadr: client_file {path}: lines CLIENT_ID:SECRET are needed"
        raise WorldConfigError(message)
    return {client: secret for client, _, secret in pairs}


def credentials(authorization: str | None, form: bytes) -> list[tuple[str, str]]:
    """Client and secret as a request says them, in each way that it may be read.

    Halves of HTTP Basic are form-encoded by the standard, and sent as they are by most clients.

    Raises:
        NoTokenError: it asks for something else, says nothing, or says it twice.
    """
    try:
        fields = parse_qs(form.decode("ascii"), max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise NoTokenError("invalid_request") from error
    said = {key: values[0] for key, values in fields.items() if len(values) == 1}
    if said.get("grant_type") != "client_credentials":
        raise NoTokenError("unsupported_grant_type")
    if authorization is None:
        return [(said.get("client_id", ""), said.get("client_secret", ""))]
    if "client_secret" in fields:
        raise NoTokenError("invalid_request")
    client, secret = _basic(authorization)
    return [(unquote_plus(client), unquote_plus(secret)), (client, secret)]


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise NoTokenError("invalid_client") from error
    client, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise NoTokenError("invalid_client")
    return client, secret
