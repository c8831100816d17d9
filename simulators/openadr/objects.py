"""What OpenADR 3.1 calls programs and events, as JSON objects; reports and vens as clients may send them. Pure.

Source: OpenADR 3.1.0 definitions (information model, enumerations of event and report payloads). A power change below zero is
less load: the standard has no sign of its own for it.
"""

import math
from typing import Any, Final

from simulators.openadr.events import Event
from simulators.openadr.times import Wall, from_period, from_stamp, period, stamp

Json = dict[str, Any]
MAX_NAME: Final = 128
MAX_RESOURCES: Final = 200
MAX_INTERVALS: Final = 1000
_PAYLOADS: Final = {
    "response": ("DISPATCH_SETPOINT_RELATIVE", -1000.0),
    "base_point": ("DISPATCH_SETPOINT", 1000.0),
    "deployment": ("SIMPLE", 1.0),
    "alert": ("SIMPLE", 1.0),
}


class WrongObjectError(Exception):
    """A client's object is none of what it should be; the message says why."""


def program_name(kind: str, programme: str) -> str:
    """The program that such events are of.

    >>> program_name("deployment", "ECRS")
    'deployment-ECRS'
    """
    return "-".join(part for part in (kind, programme) if part)


def program_object(name: str, created: str) -> Json:
    """A program; its id is its name."""
    metadata = {"id": name, "createdDateTime": created, "modificationDateTime": created, "objectType": "PROGRAM"}
    return metadata | {"programName": name, "targets": None}


def event_object(event: Event, wall: Wall) -> Json:
    """An event; kW and levels as its payload's descriptor says."""
    payload, factor = _PAYLOADS[event.kind]
    is_power = payload != "SIMPLE"
    value = round(event.value * factor, 6) if is_power else int(event.value)
    descriptor: Json = {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": payload}
    report: Json = {"payloadType": "DEMAND", "units": "KW", "historical": True, "repeat": -1}
    return {
        "id": event.event_id,
        "createdDateTime": stamp(wall.of(event.told_at_s)),
        "modificationDateTime": stamp(wall.of(event.changed_at_s)),
        "objectType": "EVENT",
        "programID": program_name(event.kind, event.programme),
        "eventName": event.event_id,
        "priority": 0 if event.kind == "alert" else 1,
        "targets": list(event.sites),
        "payloadDescriptors": [descriptor | ({"units": "KW"} if is_power else {})],
        "reportDescriptors": [report | {"frequency": 1, "reportIntervals": "SUB_INTERVALS"}] if is_power else None,
        "intervalPeriod": {
            "start": stamp(wall.of(event.start_s)),
            "duration": period(wall.length_s(event.duration_s)),
        },
        "intervals": [{"id": 0, "payloads": [{"type": payload, "values": [value]}]}],
    }


def report_of(body: Any) -> tuple[str, list[tuple[str, float, float]]]:
    """The event that a report is of, and its samples: resource, instant on the wall, value.

    Raises:
        WrongObjectError: it is no report.
    """
    try:
        event_id, _ = name_in(body, "eventID"), name_in(body, "clientName")
        resources = body["resources"]
        if not 1 <= len(resources) <= MAX_RESOURCES:
            message = f"{len(resources)} resources, there are 1 to {MAX_RESOURCES}"
            raise WrongObjectError(message)
        return event_id, [sample for resource in resources for sample in _samples(resource)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        message = f"not a report: {type(error).__name__}: {str(error)[:100]}"
        raise WrongObjectError(message) from error


def name_in(body: Any, key: str) -> str:
    """A text of 1 to 128 characters in an object.

    Raises:
        WrongObjectError: there is none.
    """
    found = body.get(key) if isinstance(body, dict) else None
    if not isinstance(found, str) or not 1 <= len(found) <= MAX_NAME:
        message = f"{key}: a text of 1 to {MAX_NAME} characters is needed"
        raise WrongObjectError(message)
    return found


def _samples(resource: Json) -> list[tuple[str, float, float]]:
    name, samples = name_in(resource, "resourceName"), []
    common: Any = resource.get("intervalPeriod")
    if len(resource["intervals"]) > MAX_INTERVALS:
        message = f"{len(resource['intervals'])} intervals, the limit is {MAX_INTERVALS}"
        raise WrongObjectError(message)
    for place, interval in enumerate(resource["intervals"]):
        own: Any = interval.get("intervalPeriod") or common
        begins_s = from_stamp(own["start"])
        if not interval.get("intervalPeriod"):
            begins_s += place * from_period(own["duration"])
        for payload in interval["payloads"]:
            value = float(payload["values"][0])
            if not math.isfinite(value):
                message = f"{name}: a value that is no number"
                raise WrongObjectError(message)
            samples.append((name, begins_s, value))
    return samples
