"""OpenADR 3.1's form of an event: its JSON, read into what the desk knows. Pure.

Source: OpenADR 3.1.0, information model, enumerations of event payloads, interval timing of the user guide: a start in the year 1
is now, a duration of 9999 years has no end, an interval's own period goes before the event's.
"""

import re
from collections.abc import Container, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.openadr_events import (
    MAX_INTERVALS,
    MAX_RESOURCES,
    W_PER_MW,
    GridEvent,
    Interval,
    Signal,
    checked_id,
    finite,
    instant_of,
)

_SIGNALS: Mapping[str, Signal] = {
    "DISPATCH_SETPOINT_RELATIVE": "power_change",
    "DISPATCH_SETPOINT": "power_limit",
    "IMPORT_CAPACITY_LIMIT": "power_limit",
    "SIMPLE": "level",
}
_WATTS = {"W": 1.0, "KW": 1e3, "MW": 1e6}
_DURATION = re.compile(
    r"P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,9})(?:\.\d+)?S)?)?"
)
_PARTS_S = (31_536_000, 2_592_000, 604_800, 86_400, 3600, 60, 1)
FOREVER_YEARS = 1000


class UnreadableError(MarketError):
    """One event is none; others of the same reply may be."""


class _Period(BaseModel):
    start: str | None = None
    duration: str | None = None


class _Payload(BaseModel):
    type: str
    values: list[Any] = Field(min_length=1, max_length=1000)


class _Interval(BaseModel):
    intervalPeriod: _Period | None = None  # noqa: N815 - the wire's name
    payloads: list[_Payload] = Field(min_length=1, max_length=50)


class _Descriptor(BaseModel):
    payloadType: str  # noqa: N815
    units: str | None = None


class RestEvent(BaseModel):
    """An event as the server tells it; what is not used here may be anything."""

    id: str = Field(min_length=1, max_length=128, pattern=r"[^.]")  # dots alone are a path's own
    programID: str = Field(min_length=1, max_length=128)  # noqa: N815
    modificationDateTime: datetime  # noqa: N815
    targets: list[str] | None = Field(default=None, max_length=MAX_RESOURCES)
    payloadDescriptors: list[_Descriptor] | None = None  # noqa: N815
    reportDescriptors: list[_Descriptor] | None = None  # noqa: N815
    intervalPeriod: _Period | None = None  # noqa: N815
    intervals: list[_Interval] = Field(min_length=1, max_length=MAX_INTERVALS)

    @property
    def modification(self) -> int:
        """A number that rises with each change: milliseconds of the newest one's instant."""
        return round(self.modificationDateTime.timestamp() * 1000)


def rest_event(told: object) -> RestEvent:
    """The event in a reply.

    Raises:
        UnreadableError: it is none.
    """
    try:
        return RestEvent.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnreadableError(f"an event can't be read: {where}: {first['msg']}") from error


def programme_of(told: object) -> tuple[str, str]:
    """Id and name of the programme in a reply.

    Raises:
        UnreadableError: it is none.
    """
    try:
        if isinstance(told, dict):
            return checked_id(told.get("id")), checked_id(told.get("programName"))
    except ValueError as error:
        raise UnreadableError(f"a programme can't be read: {error}") from error
    raise UnreadableError("a programme can't be read: it is no object")


def meant_resources(event: RestEvent, ours: Container[str], groups: Container[str]) -> tuple[str, ...] | None:
    """Those of `ours` that an event names; none of them: all; None: it is not for us.

    Without targets it is for everybody in its programme; one of `groups`, as we are called as a whole, is all of ours.
    """
    if not event.targets or any(target in groups for target in event.targets):
        return ()
    return tuple(dict.fromkeys(target for target in event.targets if target in ours)) or None


def grid_event(event: RestEvent, programme: str, now: datetime, resources: tuple[str, ...]) -> GridEvent:
    """The event, of a programme by name, for resources (`meant_resources`).

    Raises:
        UnreadableError: something in it is none of what it should be.
    """
    try:
        kind = _kind_of(event)
        intervals = tuple(_intervals(event, kind, now))
        return GridEvent(
            checked_id(event.id),
            event.modification,
            checked_id(programme),
            _SIGNALS.get(kind, "other"),
            intervals,
            resources,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnreadableError(f"event {event.id} can't be read: {type(error).__name__}: {str(error)[:200]}") from error


def _kind_of(event: RestEvent) -> str:
    """The payload type that tells most."""
    told = [payload.type for interval in event.intervals for payload in interval.payloads]
    return next((kind for kind in _SIGNALS if kind in told), told[0])


def _intervals(event: RestEvent, kind: str, now: datetime) -> list[Interval]:
    common, at, found = event.intervalPeriod or _Period(), None, []
    watts = _watts_of(event, kind)
    for interval in event.intervals:
        own = interval.intervalPeriod or _Period()
        start = own.start or (common.start if at is None else None)
        begins = _start_of(start, now) if start else (at or now)
        length = _length_of(own.duration or common.duration)
        values = [payload.values[0] for payload in interval.payloads if payload.type == kind]
        if values:
            value = finite(values[0]) if kind in _SIGNALS else 0.0
            found.append(
                Interval(begins, begins + length if length else None, value * watts / W_PER_MW if watts else value)
            )
        if length is None:
            break
        at = begins + length
    if not found:
        raise ValueError("no interval says anything")
    return found


def _watts_of(event: RestEvent, kind: str) -> float:
    """Watts for each unit of a power signal; 0 where it is none. Kilowatts are what is meant where nothing is said."""
    if _SIGNALS.get(kind) not in ("power_change", "power_limit"):
        return 0.0
    units = [each.units for each in event.payloadDescriptors or () if each.payloadType == kind and each.units]
    return _WATTS[units[0].upper() if units else "KW"]


def _start_of(text: str, now: datetime) -> datetime:
    return now if text.startswith(("0001-", "0000-")) else instant_of(text)


def _length_of(text: str | None) -> timedelta | None:
    """How long; None: without end."""
    if text is None:
        raise ValueError("an interval without a duration")
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError(f"{text[:40]!r} is no duration")
    parts = [int(part or 0) for part in found.groups()]
    if parts[0] >= FOREVER_YEARS:
        return None
    return timedelta(seconds=sum(part * seconds for part, seconds in zip(parts, _PARTS_S, strict=True))) or None
