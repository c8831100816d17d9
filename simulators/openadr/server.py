"""The demand response server of a world: one port for 2.0b over simple HTTP, for 3.1, and for what it has seen."""

import logging
from collections import Counter
from http import HTTPStatus
from typing import Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from simulators.clock import Clock, iso
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.gate import Gate
from simulators.gpus.serving import REQUEST_WITHIN_S, Listener
from simulators.openadr.events import EventBook
from simulators.openadr.reading import TooLargeError, read_body
from simulators.openadr.rest import BASE, RestVtn
from simulators.openadr.services import Vtn
from simulators.openadr.times import Wall
from simulators.openadr.xml import BadXmlError, read
from simulators.settings import WorldConfig

PATH: Final = "/OpenADR2/Simple/2.0b"
XML_TYPES: Final = ("application/xml", "text/xml")
LABEL: Final = "openadr"

log = logging.getLogger("world.openadr")


class OpenAdrServer:
    """Answers VENs, and anybody who asks what has been seen (`/openadr/seen`)."""

    def __init__(
        self,
        config: WorldConfig,
        fleet: Fleet,
        _transitions: TransitionLog,
        clock: Clock,
        within_s: float = REQUEST_WITHIN_S,
    ) -> None:
        own = config.protocols.openadr
        wall = Wall(clock)
        self.book = EventBook(fleet.script, config.sites, clock.now_s)
        self.vtn = Vtn(own, self.book, wall, clock.now_s)
        self._clock = clock
        self._refused: Counter[str] = Counter()
        self.rest = RestVtn(own, self.book, wall, self._note)
        limits = None if config.markets.limits == "scenario" else config.markets.limits
        self._gate = Gate(self._app(), fleet.script, config.seed, clock, limits)
        self._listener = Listener(self._gate, own.port, lambda host: host.startswith("127."), None, within_s, LABEL)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.port

    @property
    def urls(self) -> dict[str, str]:
        """Where a VEN finds it, for the ready file."""
        base = f"http://127.0.0.1:{self.port}"
        return {"openadr": f"{base}{PATH}"} | ({"openadr3": f"{base}{BASE}"} if self.rest.routes() else {})

    @property
    def troubles(self) -> Counter[str]:
        """Requests that were none, by what was wrong with them."""
        return self._listener.troubles + self._refused

    async def start(self) -> None:
        """Answer from now on."""
        await self._listener.start()

    async def stop(self) -> None:
        """Close the port and every connection; idempotent."""
        await self._listener.stop()

    def _app(self) -> Starlette:
        posts = [Route(f"{PATH}/{{service}}", self._post, methods=["POST"])]
        seen = Route("/openadr/seen", self._seen, methods=["GET"])
        return Starlette(routes=[*posts, seen, *self.rest.routes()])

    def _note(self, trouble: str) -> None:
        self._refused[trouble] += 1
        log.warning("%s: 3.1: %s", LABEL, trouble)

    async def _post(self, request: Request) -> Response:
        service = str(request.path_params["service"])
        if service not in self.vtn.service_names:
            return self._refuse("path", HTTPStatus.NOT_FOUND, f"services here: {', '.join(self.vtn.service_names)}")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in XML_TYPES:
            told = f"the content type is to be {' or '.join(XML_TYPES)}"
            return self._refuse("type", HTTPStatus.UNSUPPORTED_MEDIA_TYPE, told)
        try:
            message = read(await read_body(request))
        except TooLargeError as error:
            return self._refuse("oversized", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error))
        except BadXmlError as error:
            return self._refuse("malformed", HTTPStatus.BAD_REQUEST, str(error))
        except ClientDisconnect:
            return Response()
        reply, code = self.vtn.answer(service, message)
        if code != HTTPStatus.OK:
            self._refused[str(code)] += 1
            log.warning("%s: %s answered with %d", LABEL, service, code)
        return Response(reply, media_type="application/xml")

    def _refuse(self, trouble: str, status: HTTPStatus, told: str) -> Response:
        self._refused[trouble] += 1
        log.warning("%s: %s", LABEL, told)
        return PlainTextResponse(told, int(status), {"Connection": "close"})

    async def _seen(self, _request: Request) -> Response:
        now_s = self._clock.now_s()
        events = [
            {
                "event": event.event_id,
                "kind": event.kind,
                "programme": event.programme,
                "sites": event.sites,
                "modification": event.modification,
                "status": event.status(now_s),
                "from": iso(event.start_s),
                "until": iso(event.end_s),
                "value": event.value,
                "answers": {
                    ven.name: ven.answers[event.event_id].opt_type
                    for ven in self.vtn.vens
                    if event.event_id in ven.answers
                },
            }
            for event in self.book.standing()
        ]
        vens = {
            ven.name: {
                "ven": ven.ven_id,
                "reported": {
                    ven.resource_of.get(r_id) or r_id: {"at": iso(samples[-1].at_s), "value": samples[-1].value}
                    for r_id, samples in ven.samples.items()
                },
                "opts": len(ven.opts),
            }
            for ven in self.vtn.vens
        }
        seen = {"simulated_at": iso(now_s), "events": events, "vens": vens, "troubles": dict(self.troubles)}
        seen["requests"] = self._gate.counts()[LABEL]
        return JSONResponse(seen)
