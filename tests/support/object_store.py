"""An S3-compatible store on loopback for tests. It checks no signatures: that keys are right is the real store's to say."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from moto.server import ThreadedMotoServer

BUCKET = "hcp-lake"
KEY_ID = "TESTKEYID"
SECRET = "s3cret/with+odd'characters"


@contextmanager
def object_store() -> Iterator[str]:
    """The endpoint of an empty store with one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        httpx.put(f"{endpoint}/{BUCKET}").raise_for_status()
        yield endpoint
    finally:
        server.stop()


def objects(endpoint: str) -> str:
    """The store's listing of the bucket (XML)."""
    return httpx.get(f"{endpoint}/{BUCKET}?list-type=2").raise_for_status().text
