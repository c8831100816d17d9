"""Port 9400 of a node: `/metrics`, `/health` and a start page, as the real exporter has them: by any method, in one format.

Values are collected at a fixed interval of simulated time and repeated in between; the first request after an instant of
collection collects. What a value is, is in `fields`; how it looks, in `exposition`.
"""

from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from simulators.clock import Clock
from simulators.gpus.agents import Agents
from simulators.gpus.config import GpuNodesConfig
from simulators.gpus.exposition import CONTENT_TYPE, exposition
from simulators.gpus.node_agent import NodeAgent
from simulators.gpus.nodes import Gpu
from simulators.readings import GpuReading

_NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
_PAGE = '<html><head><title>GPU Exporter</title></head><body><h1>GPU Exporter</h1><a href="./metrics">Metrics</a></body></html>'


_ANY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # its router asks for none


class _Collected(NamedTuple):
    number: int  # of the interval
    gpus: tuple[tuple[Gpu, GpuReading], ...]
    resets: tuple[int, ...]
    fresh: frozenset[int]


class Exporter:
    """The exporters of all nodes."""

    def __init__(self, config: GpuNodesConfig, agents: Agents, clock: Clock) -> None:
        self._config = config
        self._agents = agents
        self._clock = clock
        self._collected: dict[str, _Collected] = {}

    def app(self) -> Starlette:
        """The ASGI application."""
        pages = {"/": self._page, "/metrics": self._metrics, "/health": self._health}
        routes = [Route(path, page, methods=_ANY_METHOD) for path, page in pages.items()]
        app = Starlette(routes=routes, exception_handlers={404: _not_found})
        app.router.redirect_slashes = False
        return app

    async def _page(self, _request: Request) -> Response:
        return HTMLResponse(_PAGE, headers=_NO_SNIFF)

    async def _health(self, _request: Request) -> Response:
        return PlainTextResponse("KO", headers=_NO_SNIFF)  # so the real one says, with status 200

    async def _metrics(self, request: Request) -> Response:
        agent = self._agents.at(request.scope["server"][0])
        collected = self._collect(agent)
        text = exposition(self._config, collected.gpus, collected.fresh)
        return Response(text, headers={"Content-Type": CONTENT_TYPE, **_NO_SNIFF})

    def _collect(self, agent: NodeAgent) -> _Collected:
        now_s = self._clock.now_s()
        number = int(now_s // self._config.collect_s)
        before = self._collected.get(agent.node.hostname)
        if before is not None and before.number == number:
            return before
        readings = [(gpu, agent.hardware.reading(gpu.number, now_s)) for gpu in agent.node.gpus]
        there = tuple(pair for pair in readings if agent.hardware.is_on_bus(pair[0].number, now_s))
        resets = tuple(agent.hardware.resets)
        fresh = frozenset(n for n, count in enumerate(resets) if before is not None and count != before.resets[n])
        collected = self._collected[agent.node.hostname] = _Collected(number, there, resets, fresh)
        return collected


async def _not_found(_request: Request, _error: Exception) -> Response:
    """As Go's own web server has it."""
    return PlainTextResponse("404 page not found\n", 404, _NO_SNIFF)
