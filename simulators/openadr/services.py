"""What the VTN answers to each message, service by service: registration, events, reports, opts, polls. No sockets.

Errors are OpenADR's application codes: 450 out of sequence, 451 not allowed, 452 invalid id, 454 invalid data, 459 not in this
service, 461 no such report, 463 not registered.
"""

import math
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Final

from simulators.openadr import messages
from simulators.openadr.config import OpenAdrConfig
from simulators.openadr.events import EventBook
from simulators.openadr.messages import Asked
from simulators.openadr.times import Wall, from_period, from_stamp
from simulators.openadr.vens import MAX_OPTS, MAX_POINTS, Opt, Refusal, Sample, Ven, Vens
from simulators.openadr.xml import all_at, name_of, text_at

MAX_ID: Final = 200
Handler = Callable[[ET.Element], bytes]


class Vtn:
    """The services by name; each takes messages of its own."""

    def __init__(self, config: OpenAdrConfig, book: EventBook, wall: Wall, now_s: Callable[[], float]) -> None:
        self._config = config
        self._book = book
        self._wall = wall
        self._now_s = now_s
        self.vens = Vens()
        self._handlers: dict[str, dict[str, Handler]] = {
            "EiRegisterParty": {
                "oadrQueryRegistration": self._query,
                "oadrCreatePartyRegistration": self._register,
                "oadrCancelPartyRegistration": self._cancel_registration,
                "oadrCanceledPartyRegistration": self._noted,
                "oadrResponse": self._noted,
            },
            "EiEvent": {"oadrRequestEvent": self._request_event, "oadrCreatedEvent": self._created_event},
            "EiReport": {
                "oadrRegisterReport": self._register_report,
                "oadrCreatedReport": self._created_report,
                "oadrUpdateReport": self._update_report,
                "oadrCanceledReport": self._noted,
                "oadrResponse": self._noted,
            },
            "EiOpt": {"oadrCreateOpt": self._create_opt, "oadrCancelOpt": self._cancel_opt},
            "OadrPoll": {"oadrPoll": self._poll},
        }

    @property
    def service_names(self) -> tuple[str, ...]:
        """The services there are."""
        return tuple(self._handlers)

    def answer(self, service: str, message: ET.Element) -> tuple[bytes, int]:
        """The reply, and its code: 200, or that of an error."""
        name, request_id = name_of(message), _request_id(message)
        try:
            handler = self._handlers[service].get(name)
            if handler is None:
                raise Refusal(459, f"{name[:60]} is no message of {service}")
            return handler(message), messages.OK
        except Refusal as refusal:
            return self._refused(name, refusal, request_id, _ven_id(message)), refusal.code

    def ask_report(self, ven: Ven, specifier_id: str, sample_s: int) -> None:
        """Have a VEN asked for one of its reports with its next poll; `sample_s` 0: for one value now.

        Raises:
            Refusal: it has registered no such report.
        """
        known = next((asked for asked in ven.asked.values() if asked.specifier_id == specifier_id), None)
        if known is None:
            raise Refusal(461, f"{ven.name} has no report {specifier_id}")
        asked = known._replace(request_id=f"REQ-{uuid.uuid4()}", sample_s=sample_s)
        ven.asked[asked.request_id] = asked
        ven.waiting.append(messages.create_report(asked, ven.ven_id))

    def _refused(self, name: str, refusal: Refusal, request_id: str, ven_id: str) -> bytes:
        if name == "oadrCreatePartyRegistration":
            own = (self._config.vtn_id, self._config.poll_s)
            return messages.refused_registration(*own, refusal.code, refusal.description, request_id)
        return messages.plain_response(refusal.code, refusal.description, request_id, ven_id)

    def _known(self, message: ET.Element) -> Ven:
        ven = self.vens.get(_ven_id(message))
        if ven is None:
            raise Refusal(463, "this venID is not registered here")
        return ven

    def _noted(self, message: ET.Element) -> bytes:
        return messages.plain_response(messages.OK, "OK", _request_id(message), _ven_id(message))

    def _query(self, message: ET.Element) -> bytes:
        return messages.registration(self._config.vtn_id, self._config.poll_s, _request_id(message))

    def _register(self, message: ET.Element) -> bytes:
        if text_at(message, "oadrProfileName") != "2.0b" or text_at(message, "oadrTransportName") != "simpleHttp":
            raise Refusal(451, "profile 2.0b over simpleHttp is what there is here")
        if text_at(message, "oadrHttpPullModel") in ("false", "0"):
            raise Refusal(451, "VENs poll here: oadrHttpPullModel has to be true")
        name, registration_id = _bounded(message, "oadrVenName"), _bounded(message, "registrationID")
        ven = self.vens.register(name, registration_id, _ven_id(message))
        own = (self._config.vtn_id, self._config.poll_s, _request_id(message))
        return messages.registration(*own, ven.ven_id, ven.registration_id)

    def _cancel_registration(self, message: ET.Element) -> bytes:
        ven = self.vens.cancel(_bounded(message, "registrationID"))
        return messages.canceled_registration(_request_id(message), ven.registration_id, ven.ven_id)

    def _request_event(self, message: ET.Element) -> bytes:
        self._known(message)
        return self._distribute(_request_id(message))

    def _distribute(self, request_id: str) -> bytes:
        own = (self._config.vtn_id, self._config.market)
        return messages.distribute(*own, self._book.standing(), self._wall, self._now_s(), request_id)

    def _created_event(self, message: ET.Element) -> bytes:
        ven = self._known(message)
        answers = [_answer(each) for each in all_at(message, "eiCreatedEvent/eventResponses/eventResponse")]
        for answer in answers:
            self._check_event(answer)
        ven.answers |= {answer.event_id: answer for answer in answers}
        return messages.plain_response(messages.OK, "OK", _request_id(message), ven.ven_id)

    def _check_event(self, opt: Opt) -> None:
        event = self._book.get(opt.event_id)
        if event is None:
            raise Refusal(452, f"no event {opt.event_id[:60]}")
        if event.modification != opt.modification:
            raise Refusal(450, f"event {event.event_id} is at modification {event.modification}")

    def _register_report(self, message: ET.Element) -> bytes:
        ven = self._known(message)
        ven.asked.clear()
        ven.resource_of.clear()
        for report in all_at(message, "oadrReport"):
            if text_at(report, "reportName") == "METADATA_TELEMETRY_USAGE":
                asked = self._asked(report, ven)
                ven.asked[asked.request_id] = asked
        return messages.registered_report(_request_id(message), list(ven.asked.values()), ven.ven_id)

    def _asked(self, report: ET.Element, ven: Ven) -> Asked:
        """All points of a report, as often as wanted here, within what the VEN offers."""
        points, sample_s = [], self._config.report_s
        for each in all_at(report, "oadrReportDescription"):
            r_id, reading = _bounded(each, "rID"), text_at(each, "readingType") or "Direct Read"
            if not r_id or len(ven.resource_of) >= MAX_POINTS:
                raise Refusal(454, f"a point without rID, or more than {MAX_POINTS} points")
            points.append((r_id, reading))
            ven.resource_of[r_id] = _bounded(each, "reportDataSource/resourceID")
            least, most = (_seconds(each, f"oadrSamplingRate/oadr{end}Period") for end in ("Min", "Max"))
            sample_s = min(max(sample_s, least or sample_s), most or sample_s)
        if not points:
            raise Refusal(454, "a report without points")
        return Asked(f"REQ-{uuid.uuid4()}", _bounded(report, "reportSpecifierID"), tuple(points), sample_s)

    def _created_report(self, message: ET.Element) -> bytes:
        ven = self._known(message)
        return messages.plain_response(messages.OK, "OK", _request_id(message), ven.ven_id)

    def _update_report(self, message: ET.Element) -> bytes:
        ven = self._known(message)
        for report in all_at(message, "oadrReport"):
            if text_at(report, "reportRequestID") not in ven.asked:
                raise Refusal(452, "no such reportRequestID")
            for interval in all_at(report, "intervals/interval"):
                at_s = self._wall.simulated(_instant(interval, "dtstart/date-time"))
                for payload in all_at(interval, "oadrReportPayload"):
                    ven.report(_bounded(payload, "rID"), Sample(at_s, _number(payload, "payloadFloat/value")))
        return messages.updated_report(_request_id(message), ven.ven_id)

    def _create_opt(self, message: ET.Element) -> bytes:
        ven, opt_id = self._known(message), _bounded(message, "optID")
        event_id = _bounded(message, "qualifiedEventID/eventID")
        number = _number(message, "qualifiedEventID/modificationNumber") if event_id else 0.0
        opt = Opt(event_id, int(number), _opt_type(message), text_at(message, "optReason")[:MAX_ID])
        if event_id:
            self._check_event(opt)
            ven.answers[event_id] = opt
        if not opt_id or len(ven.opts) >= MAX_OPTS:
            raise Refusal(454, f"an opt without optID, or more than {MAX_OPTS} of them")
        ven.opts[opt_id] = opt
        return messages.opted("oadrCreatedOpt", _request_id(message), opt_id)

    def _cancel_opt(self, message: ET.Element) -> bytes:
        ven, opt_id = self._known(message), _bounded(message, "optID")
        if ven.opts.pop(opt_id, None) is None:
            raise Refusal(452, "no such optID")
        return messages.opted("oadrCanceledOpt", _request_id(message), opt_id)

    def _poll(self, message: ET.Element) -> bytes:
        ven_id = _ven_id(message)
        ven = self.vens.get(ven_id)
        if ven is None:
            self.vens.call_back(ven_id)
            return messages.request_reregistration(ven_id)
        self.vens.polled(ven)
        if not all(ven.has_answered(event) for event in self._book.standing()):
            return self._distribute("")
        if ven.waiting:
            return ven.waiting.popleft()
        return messages.plain_response(messages.OK, "OK", "", ven_id)


def _request_id(message: ET.Element) -> str:
    paths = ("requestID", "eiResponse/requestID", "eiRequestEvent/requestID", "eiCreatedEvent/eiResponse/requestID")
    return next(filter(None, (text_at(message, path)[:MAX_ID] for path in paths)), "")


def _ven_id(message: ET.Element) -> str:
    paths = ("venID", "eiRequestEvent/venID", "eiCreatedEvent/venID")
    return next(filter(None, (text_at(message, path)[:MAX_ID] for path in paths)), "")


def _bounded(element: ET.Element, path: str) -> str:
    found = text_at(element, path)
    if len(found) > MAX_ID:
        raise Refusal(454, f"{path} is longer than {MAX_ID} characters")
    return found


def _answer(response: ET.Element) -> Opt:
    number = _number(response, "qualifiedEventID/modificationNumber")
    event_id = _bounded(response, "qualifiedEventID/eventID")
    return Opt(event_id, int(number), _opt_type(response), text_at(response, "responseDescription")[:MAX_ID])


def _opt_type(element: ET.Element) -> str:
    found = text_at(element, "optType")
    if found not in ("optIn", "optOut"):
        raise Refusal(454, f"optType is optIn or optOut, not {found[:40]!r}")
    return found


def _number(element: ET.Element, path: str) -> float:
    try:
        value = float(text_at(element, path)[:MAX_ID])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Refusal(454, f"{path} is no number")
    return value


def _instant(element: ET.Element, path: str) -> float:
    try:
        return from_stamp(text_at(element, path)[:MAX_ID])
    except (ValueError, OverflowError):
        raise Refusal(454, f"{path} is no instant with an offset") from None


def _seconds(element: ET.Element, path: str) -> int:
    """Seconds of a duration; 0 where it is none."""
    try:
        return from_period(text_at(element, path)[:MAX_ID])
    except ValueError:
        return 0
