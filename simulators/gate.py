"""What stands before the outside services: their limits, and what a scenario has go wrong on the way to them and back.

An ASGI layer around the application, which knows nothing of it. Draws come from a stream of each request's own, by service and
number, so that a scenario and a seed fail the same requests. What was asked and refused is counted, for `/world/services`.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from simulators.broken import Broken, Passed, Spoilt
from simulators.clock import Clock
from simulators.named import NAMED, NamedAnswer
from simulators.script import Script
from simulators.service_plan import ServiceName, Trouble
from simulators.services import SERVICES, Refusal, Window, refusal, service_of, weight_of
from simulators.streams import stream

MOST_CLIENTS = 256  # whose windows are kept
_ERRORS = (500, 502, 503, 504)


class _Asked(NamedTuple):
    """A request of a service's, and what its reply's headers say of the limit."""

    service: ServiceName
    scope: Scope
    receive: Receive
    send: Send
    headers: Mapping[str, str]

    async def refuse(self, told: Refusal) -> None:
        """Answer it in place of the application."""
        named = {**told.headers, **self.headers, "content-type": told.media_type, "content-length": str(len(told.body))}
        pairs = [(name.lower().encode(), value.encode()) for name, value in named.items()]
        await self.send({"type": "http.response.start", "status": told.status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": told.body})


class Gate:
    """One world's services, as they are reached."""

    def __init__(self, app: ASGIApp, script: Script, seed: int, clock: Clock, limits: str | None = None) -> None:
        """`limits`: `counted` or `enforced` whatever the scenario says."""
        self._app = app
        self._script = script
        self._seed = seed
        self._clock = clock
        self._is_enforced = (limits or script.scenario.services.limits) == "enforced"
        self._windows: dict[tuple[ServiceName, str], Window] = {}
        self._counts: dict[ServiceName, Counter[str]] = {name: Counter() for name in SERVICES}

    def counts(self) -> dict[str, dict[str, int]]:
        """By service: `requests`, `over_limit`, `refused`, `down`, and how many failed in which way."""
        told = ("requests", "over_limit", "refused")
        return {name: dict.fromkeys(told, 0) | dict(counts) for name, counts in self._counts.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        service = service_of(scope["path"]) if scope["type"] == "http" else None
        if service is None:
            await self._app(scope, receive, send)
            return
        count, now_s = self._counts[service], self._clock.now_s()
        count["requests"] += 1
        window = self._window(service, scope)
        wait_s = window.take(now_s, weight_of(scope["path"]))
        count["over_limit"] += wait_s > 0
        asked = _Asked(service, scope, receive, send, _limit_headers(service, window))
        if self._is_enforced and (wait_s > 0 or now_s < window.banned_until_s):
            count["refused"] += 1
            await asked.refuse(refusal(service, wait_s, window, now_s))
            return
        troubles = [trouble for trouble, _, _ in self._script.troubles(service, now_s)]
        if not troubles:
            await self._pass(asked)
        elif any(trouble.is_down for trouble in troubles):
            count["down"] += 1
            await asked.refuse(_unavailable(503))
        else:
            await asyncio.sleep(sum(trouble.delay_ms for trouble in troubles) / 1000.0)
            await self._go_wrong(asked, troubles, refusal(service, 1.0, window, now_s))

    async def _go_wrong(self, asked: "_Asked", troubles: list[Trouble], too_often: Refusal) -> None:
        """Answer, unless a draw has it that this request fails, and how."""
        count = self._counts[asked.service]
        draw = stream(self._seed, "services", asked.service, count["requests"])
        failing = next((trouble for trouble in troubles if draw.random() < trouble.fail_fraction), None)
        wrong_fraction = max(trouble.wrong_fraction for trouble in troubles)
        if failing is None:
            await self._pass(asked, Spoilt(asked.send, asked.headers, wrong_fraction, draw) if wrong_fraction else None)
            return
        failure = failing.failures[int(draw.integers(len(failing.failures)))]
        count[failure] += 1
        if failure == "error":
            await asked.refuse(_unavailable(_ERRORS[int(draw.integers(len(_ERRORS)))]))
        elif failure == "throttled":
            await asked.refuse(too_often)
        elif failure == "slow":
            await asyncio.sleep(failing.slow_ms / 1000.0)
            await self._pass(asked)
        else:
            await self._pass(asked, Broken(asked.send, asked.headers, failure, failing.oversized_mb))

    async def _pass(self, asked: "_Asked", answer: Passed | None = None) -> None:
        """Have a request answered by the application, as it is meant to be or by way of what spoils it."""
        if answer is not None:
            await self._app(asked.scope, asked.receive, answer)
            return
        plain = Passed(asked.send, asked.headers)
        is_named = asked.service in NAMED
        await self._app(
            asked.scope, asked.receive, NamedAnswer(plain, dict(asked.scope["headers"])) if is_named else plain
        )

    def _window(self, service: ServiceName, scope: Scope) -> Window:
        """The window of whoever asks: ERCOT counts by subscription, the others by address."""
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        who = headers.get(b"ocp-apim-subscription-key", b"").decode("latin-1") if service == "ercot" else ""
        key = (service, who)
        if key not in self._windows:
            while len(self._windows) >= MOST_CLIENTS:
                del self._windows[next(iter(self._windows))]
            self._windows[key] = Window(SERVICES[service])
        return self._windows[key]


def _limit_headers(service: ServiceName, window: Window) -> dict[str, str]:
    """What a service tells with every reply of how much was asked."""
    return {"X-MBX-USED-WEIGHT-1M": str(window.used)} if service == "binance" else {}


def _unavailable(status: int) -> Refusal:
    """What a service's front says where there is nothing behind it."""
    phrase = HTTPStatus(status).phrase
    return Refusal(status, orjson.dumps({"message": phrase}))
