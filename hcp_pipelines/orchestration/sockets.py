"""Unix sockets of Dagster's part of the platform: where they are, and the one-line protocol of the run server.

A request and its reply are one JSON object on one line each; one request a connection.
"""

import json
import socket
from pathlib import Path
from typing import Any

from hcp_pipelines.settings import Settings

MAX_MESSAGE_BYTES = 64 * 1024
TIMEOUT_S = 5.0


def socket_path(settings: Settings, name: str) -> Path:
    """The socket `name` of this state directory, in a folder that only its owner may enter."""
    folder = settings.socket_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{name}.sock"


def ask(path: Path, request: dict[str, Any], timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The reply of the server behind a socket.

    Raises:
        OSError: nobody listens there, or it did not answer in time.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        send_line(connection, request)
        return read_line(connection)


def send_line(connection: socket.socket, message: dict[str, Any]) -> None:
    """Write one message."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def read_line(connection: socket.socket) -> dict[str, Any]:
    """Read one message.

    Raises:
        ConnectionError: the other side closed too early, or sent something else.
    """
    data = b""
    while not data.endswith(b"\n"):
        chunk = connection.recv(4096)
        if not chunk or len(data) > MAX_MESSAGE_BYTES:
            raise ConnectionError(f"no complete message of at most {MAX_MESSAGE_BYTES} bytes, but {data[:80]!r}")
        data += chunk
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ConnectionError(f"expected one JSON object, not {data[:80]!r}")
    return message
