"""The clouds' paths in the world: how their requests are read and answered. What they answer is in `aws` and `azure`."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simulators.bodies import body_within
from simulators.clock import Clock, iso
from simulators.cloud import aws, azure
from simulators.cloud.market import CloudMarket
from simulators.series import GENERATED, World

MOST_BODY_BYTES: Final = 64 * 1024


class CloudRoutes:
    """Both clouds of one world."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._market = CloudMarket(world.config.seed, world.script)
        self._clock = clock

    def routes(self) -> list[Route]:
        """What is served."""
        return [
            Route("/", self.amazon, methods=["GET", "POST"]),
            Route("/api/retail/prices", self.prices, methods=["GET"]),
            Route("/subscriptions/{subscription}/providers/Microsoft.Compute/skus", self.skus, methods=["GET"]),
        ]

    async def amazon(self, request: Request) -> Response:
        """EC2's actions and the price list: by the target's header, else by the action."""
        now_s = self._clock.now_s()
        body = await body_within(request, MOST_BODY_BYTES)
        if request.headers.get("x-amz-target") == aws.LIST_TARGET:
            status, told = await run_in_threadpool(aws.get_products, body, now_s)
            return self._reply(told, status, "application/x-amz-json-1.1", now_s)
        form = dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True))
        query: Mapping[str, str] = {**request.query_params, **form}
        region = aws.region_of(request.headers.get("authorization", ""))
        status, text = await run_in_threadpool(aws.ec2, self._market, query, region, now_s)
        return self._reply(text.encode(), status, "text/xml;charset=UTF-8", now_s)

    def prices(self, request: Request) -> Response:
        """Azure's retail prices."""
        now_s = self._clock.now_s()
        base = f"{request.url.scheme}://{request.url.netloc}"
        status, told = azure.retail_prices(self._market, dict(request.query_params), base, now_s)
        return self._reply(orjson.dumps(told), status, "application/json", now_s)

    def skus(self, request: Request) -> Response:
        """Azure's machine sizes."""
        now_s = self._clock.now_s()
        status, told = azure.skus(self._market, dict(request.query_params), now_s)
        return self._reply(orjson.dumps(told), status, "application/json", now_s)

    @staticmethod
    def _reply(body: bytes, status: int, media_type: str, now_s: float) -> Response:
        stamps = {"X-World-Source": GENERATED, "X-World-Time": iso(now_s)}
        return Response(body, status_code=status, headers=stamps, media_type=media_type)
