"""The VTN's messages, written in the order of the 2.0b schema. Pure: what is said is decided in `services`."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from simulators.openadr.events import Event
from simulators.openadr.times import Wall, period, stamp
from simulators.openadr.xml import Markup, document, node

OK: Final = 200
_SIGNALS: Final = {
    "response": ("LOAD_DISPATCH", "delta"),
    "base_point": ("LOAD_DISPATCH", "setpoint"),
    "deployment": ("SIMPLE", "level"),
    "alert": ("SIMPLE", "level"),
}
_W_PER_MW: Final = 1e6


class Asked(NamedTuple):
    """What a VEN is asked to report: points of one of its reports, sampled so often; `samples_s` 0: once."""

    request_id: str
    specifier_id: str
    points: tuple[tuple[str, str], ...]  # rID, reading type
    sample_s: int


def market_context(market: str, event: Event) -> str:
    """The programme that an event is of, as its market context.

    >>> market_context("http://grid.example", Event("e", "deployment", "ECRS", (), 0, 60, 1))
    'http://grid.example/deployment/ECRS'
    """
    return "/".join(part for part in (market, event.kind, event.programme) if part)


def plain_response(code: int, description: str, request_id: str, ven_id: str = "") -> bytes:
    """An oadrResponse."""
    return document("oadrResponse", _response(code, description, request_id), _ven(ven_id))


def registration(vtn_id: str, poll_s: int, request_id: str, ven_id: str = "", registration_id: str = "") -> bytes:
    """What this VTN can do, and who the VEN is here, if it is registered."""
    profile = node(
        "oadr:oadrProfile",
        node("oadr:oadrProfileName", "2.0b"),
        node("oadr:oadrTransports", node("oadr:oadrTransport", node("oadr:oadrTransportName", "simpleHttp"))),
    )
    return document(
        "oadrCreatedPartyRegistration",
        _response(OK, "OK", request_id),
        node("ei:registrationID", registration_id) if registration_id else None,
        _ven(ven_id),
        node("ei:vtnID", vtn_id),
        node("oadr:oadrProfiles", profile),
        node("oadr:oadrRequestedOadrPollFreq", node("xcal:duration", period(poll_s))),
    )


def refused_registration(vtn_id: str, poll_s: int, code: int, description: str, request_id: str) -> bytes:
    """A registration that is not taken, in the form of one that is."""
    accepted = registration(vtn_id, poll_s, request_id).decode()
    return accepted.replace(_response(OK, "OK", request_id), _response(code, description, request_id), 1).encode()


def canceled_registration(request_id: str, registration_id: str, ven_id: str) -> bytes:
    """The VEN is not registered any more."""
    inside = (_response(OK, "OK", request_id), node("ei:registrationID", registration_id), _ven(ven_id))
    return document("oadrCanceledPartyRegistration", *inside)


def request_reregistration(ven_id: str) -> bytes:
    """For a VEN that is not known: it is to register anew."""
    return document("oadrRequestReregistration", node("ei:venID", ven_id))


def distribute(vtn_id: str, market: str, events: Iterable[Event], wall: Wall, now_s: float, request_id: str) -> bytes:
    """All events that stand."""
    told = [
        node("oadr:oadrEvent", _event(event, market, wall, now_s), node("oadr:oadrResponseRequired", "always"))
        for event in events
    ]
    inside = (_response(OK, "OK", request_id), node("pyld:requestID", str(uuid.uuid4())), node("ei:vtnID", vtn_id))
    return document("oadrDistributeEvent", *inside, *told)


def registered_report(request_id: str, asked: Sequence[Asked], ven_id: str) -> bytes:
    """Reports are known, and these are asked for."""
    return document("oadrRegisteredReport", _response(OK, "OK", request_id), *map(_asked, asked), _ven(ven_id))


def create_report(asked: Asked, ven_id: str) -> bytes:
    """One more report is asked for."""
    return document("oadrCreateReport", node("pyld:requestID", str(uuid.uuid4())), _asked(asked), _ven(ven_id))


def updated_report(request_id: str, ven_id: str) -> bytes:
    """A report has come."""
    return document("oadrUpdatedReport", _response(OK, "OK", request_id), _ven(ven_id))


def opted(name: str, request_id: str, opt_id: str) -> bytes:
    """An opt has been taken, or taken back, by the message's name."""
    return document(name, _response(OK, "OK", request_id), node("ei:optID", opt_id))


def _response(code: int, description: str, request_id: str) -> Markup:
    return node(
        "ei:eiResponse",
        node("ei:responseCode", str(code)),
        node("ei:responseDescription", description),
        node("pyld:requestID", request_id),
    )


def _ven(ven_id: str) -> Markup | None:
    return node("ei:venID", ven_id) if ven_id else None


def _event(event: Event, market: str, wall: Wall, now_s: float) -> Markup:
    descriptor = node(
        "ei:eventDescriptor",
        node("ei:eventID", event.event_id),
        node("ei:modificationNumber", str(event.modification)),
        node("ei:priority", "0" if event.kind == "alert" else "1"),
        node("ei:eiMarketContext", node("emix:marketContext", market_context(market, event))),
        node("ei:createdDateTime", stamp(wall.of(event.told_at_s))),
        node("ei:eventStatus", event.status(now_s)),
    )
    lengths = (("x-eiNotification", event.notice_s), ("x-eiRampUp", event.ramp_s))
    properties = node(
        "xcal:properties",
        *_span(event, wall),
        *(node(f"ei:{name}", _duration(wall.length_s(seconds))) for name, seconds in lengths if seconds > 0),
    )
    period_ = node("ei:eiActivePeriod", properties, node("xcal:components"))
    target = node("ei:eiTarget", *(node("ei:resourceID", site) for site in event.sites))
    return node("ei:eiEvent", descriptor, period_, node("ei:eiEventSignals", _signal(event, wall, now_s)), target)


def _signal(event: Event, wall: Wall, now_s: float) -> Markup:
    name, kind = _SIGNALS[event.kind]
    value = _value(event)
    is_active = event.status(now_s) == "active"
    interval = node(
        "ei:interval",
        *_span(event, wall),
        node("xcal:uid", node("xcal:text", "0")),
        node("ei:signalPayload", _float(value)),
    )
    return node(
        "ei:eiEventSignal",
        node("strm:intervals", interval),
        node("ei:signalName", name),
        node("ei:signalType", kind),
        node("ei:signalID", f"{event.event_id}-signal"),
        _watts() if name == "LOAD_DISPATCH" else None,
        node("ei:currentValue", _float(value if is_active else 0.0)),
    )


def _value(event: Event) -> float:
    """What the signal carries: watts, less than nothing for a reduction; or a level."""
    if event.kind in ("alert", "deployment"):
        return event.value
    return (-1.0 if event.kind == "response" else 1.0) * event.value * _W_PER_MW


def _watts() -> Markup:
    attributes = (node("power:hertz", "60"), node("power:voltage", "480"), node("power:ac", "true"))
    return node(
        "power:powerReal",
        node("power:itemDescription", "RealPower"),
        node("power:itemUnits", "W"),
        node("scale:siScaleCode", "none"),
        node("power:powerAttributes", *attributes),
    )


def _asked(asked: Asked) -> Markup:
    points = [
        node("ei:specifierPayload", node("ei:rID", r_id), node("ei:readingType", reading))
        for r_id, reading in asked.points
    ]
    specifier = node(
        "ei:reportSpecifier",
        node("ei:reportSpecifierID", asked.specifier_id),
        node("xcal:granularity", node("xcal:duration", period(asked.sample_s))),
        node("ei:reportBackDuration", node("xcal:duration", period(asked.sample_s))),
        *points,
    )
    return node("oadr:oadrReportRequest", node("ei:reportRequestID", asked.request_id), specifier)


def _span(event: Event, wall: Wall) -> tuple[Markup, Markup]:
    start = node("xcal:dtstart", node("xcal:date-time", stamp(wall.of(event.start_s))))
    return start, node("xcal:duration", _duration(wall.length_s(event.duration_s)))


def _duration(seconds: int) -> Markup:
    return node("xcal:duration", period(seconds))


def _float(value: float) -> Markup:
    return node("ei:payloadFloat", node("ei:value", f"{value:.10g}"))
