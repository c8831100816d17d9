"""The web side of LuxOS, as far as other software looks at it: a start page that says whose firmware it is."""

from simulators.miners.miner import Miner
from simulators.miners.web import Request, Response, page

_START = b"<!doctype html><html><head><title>Luxor Firmware</title></head><body></body></html>"


def serve(_miner: Miner, request: Request) -> Response:
    """The response to one request."""
    return Response(200, _START) if request.path == "/" else page(404)
