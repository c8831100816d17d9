"""The web side of a WhatsMiner: it sends browsers to its encrypted pages, which are not served."""

from simulators.miners.miner import Miner
from simulators.miners.web import Request, Response, page


def serve(miner: Miner, request: Request) -> Response:
    """The response to one request."""
    target = request.target if request.target != "/" else "/cgi-bin/luci"
    return page(307, ("Location", f"https://{miner.address}{target}"))
