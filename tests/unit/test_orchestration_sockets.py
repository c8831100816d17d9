"""Socket paths stay short; the one-line protocol refuses what is not a message."""

import socket
from pathlib import Path

import pytest

from hcp_pipelines.orchestration.sockets import read_line, send_line, socket_path
from hcp_pipelines.settings import Settings


def test_socket_of_a_deep_state_directory_is_short_and_private(tmp_path: Path):
    deep = Settings(state_dir=tmp_path / ("x" * 60) / ("y" * 60))
    path = socket_path(deep, "control")
    assert len(bytes(path)) <= 107
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path == socket_path(deep, "control")
    path.parent.rmdir()


def test_a_message_survives_the_wire():
    left, right = socket.socketpair()
    with left, right:
        send_line(left, {"op": "launch", "run_id": "ä"})
        assert read_line(right) == {"op": "launch", "run_id": "ä"}


@pytest.mark.parametrize("sent", [b"", b'{"op": "ping"}', b"[1]\n"])
def test_something_else_is_refused(sent):
    left, right = socket.socketpair()
    with left, right:
        left.sendall(sent)
        left.close()
        with pytest.raises(ConnectionError):
            read_line(right)
