"""A PostgreSQL server of somebody else's, over TCP with passwords: none of the platform's code starts it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.binaries import BINARIES, server_account

SUPERUSER = "site_dba"
PASSWORD = "s3cret/with:odd@characters"
QUOTED = "s3cret%2Fwith%3Aodd%40characters"


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def site_postgres() -> Iterator[int]:
    """The port of a new server, which ends with the context."""
    home = Path(tempfile.mkdtemp(prefix="site-postgres-"))
    (home / "password").write_text(PASSWORD)
    account = server_account()
    if account:
        for path in (home, home / "password"):
            os.chown(path, account["user"], account["group"])
    port = free_port()
    made = [BINARIES / "initdb", "-D", home / "data", "-U", SUPERUSER, "--auth=scram-sha-256", "--no-sync"]
    subprocess.run([*made, f"--pwfile={home / 'password'}"], check=True, capture_output=True, cwd=home, **account)
    options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", str(port)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [BINARIES / "postgres", "-D", home / "data", *options], stdout=log, stderr=log, cwd=home, **account
        )
    try:
        _wait_until_up(f"host=127.0.0.1 port={port} user={SUPERUSER} password={PASSWORD} dbname=postgres", process)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def _wait_until_up(dsn: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server is not up after 60 s"
            time.sleep(0.05)
