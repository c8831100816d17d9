"""What a demand response server asks for, whichever version of OpenADR it came in; and OpenADR 2.0b's form of it. Pure.

Instants are of the clock on the wall. What is made of an event is the feed's business.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from hcp_pipelines.domain.errors import MarketError

MAX_ID_CHARS = 200
MAX_INTERVALS = 500
MAX_RESOURCES = 200
W_PER_MW = 1e6
_CONFIDENTIAL = re.compile(r"https://[^\s/]\S*|http://(127\.[0-9.]+|localhost)(:[0-9]{1,5})?(/\S*)?")
_SCALES = {"none": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3}

Signal = Literal["power_change", "power_limit", "level", "other"]
_SIGNALS: Mapping[tuple[str, str], Signal] = {
    ("LOAD_DISPATCH", "delta"): "power_change",
    ("LOAD_DISPATCH", "setpoint"): "power_limit",
    ("SIMPLE", "level"): "level",
    ("simple", "level"): "level",
}
_BEST_FIRST: Sequence[Signal] = ("power_change", "power_limit", "level", "other")


@dataclass(frozen=True, slots=True)
class Interval:
    """One stretch of an event; `end_at` None: until it is cancelled. `value`: MW of power signals, else a level."""

    start_at: datetime
    end_at: datetime | None
    value: float


@dataclass(frozen=True)
class GridEvent:
    """One event. `programme`: 2.0b's market context, or the name of 3.1's programme; no `resources`: all of them."""

    event_id: str
    modification: int
    programme: str
    signal: Signal
    intervals: tuple[Interval, ...]
    resources: tuple[str, ...] = ()
    ramp_up: timedelta = timedelta(0)
    is_cancelled: bool = False
    is_test: bool = False

    @property
    def start_at(self) -> datetime:
        """When it begins."""
        return self.intervals[0].start_at

    @property
    def end_at(self) -> datetime | None:
        """When it ends; None: when it is cancelled."""
        return self.intervals[-1].end_at


@dataclass(frozen=True, slots=True)
class Answer:
    """In or out, and why."""

    is_in: bool
    reason: str = ""


def event_of(told: Mapping[str, Any]) -> GridEvent:
    """An event as openleadr hands it over.

    Raises:
        MarketError: something in it is missing, or is none of what it should be.
    """
    try:
        return _event_of(told)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise MarketError(f"an event can't be read: {type(error).__name__}: {str(error)[:MAX_ID_CHARS]}") from error


def _event_of(told: Mapping[str, Any]) -> GridEvent:
    about, period = told["event_descriptor"], told["active_period"]
    signals = told["event_signals"]
    listed = signals["event_signals"] if isinstance(signals, Mapping) else signals
    kinds = [(_SIGNALS.get((str(s["signal_name"]), str(s["signal_type"])), "other"), s) for s in listed]
    kind, signal = min(kinds, key=lambda pair: _BEST_FIRST.index(pair[0]))
    resources = [target["resource_id"] for target in told.get("targets") or () if "resource_id" in target]
    if len(resources) > MAX_RESOURCES:
        raise ValueError(f"{len(resources)} resources, the limit is {MAX_RESOURCES}")
    units_per_mw = W_PER_MW / _scale_of(signal) if kind in ("power_change", "power_limit") else 1.0
    ramp_up = period.get("ramp_up", period.get("ramp_up_period")) or timedelta(0)
    return GridEvent(
        event_id=checked_id(about["event_id"]),
        modification=int(about["modification_number"]),
        programme=checked_id(about["market_context"]),
        signal=kind,
        intervals=tuple(_intervals(signal["intervals"], instant_of(period["dtstart"]), _length(period), units_per_mw)),
        resources=tuple(checked_id(resource) for resource in resources),
        ramp_up=ramp_up if isinstance(ramp_up, timedelta) else timedelta(0),
        is_cancelled=about["event_status"] == "cancelled",
        is_test=about.get("test_event", False) not in (False, None, "false"),
    )


def _intervals(told: Any, start_at: datetime, length: timedelta, units: float) -> Iterator[Interval]:
    """One behind the other, as far as they say nothing else."""
    listed = [told] if isinstance(told, Mapping) else list(told)
    if not 1 <= len(listed) <= MAX_INTERVALS:
        raise ValueError(f"{len(listed)} intervals, there are 1 to {MAX_INTERVALS}")
    at = start_at
    for each in listed:
        begins = instant_of(each["dtstart"]) if each.get("dtstart") else at
        lasts = each.get("duration", length if len(listed) == 1 else None)
        if not isinstance(lasts, timedelta):
            raise ValueError("an interval without a duration")
        at = begins + lasts
        yield Interval(begins, at if lasts else None, finite(each["signal_payload"]) / units)


def _length(period: Mapping[str, Any]) -> timedelta:
    length = period["duration"]
    if not isinstance(length, timedelta):
        raise ValueError("an active period without a duration")
    return length


def _scale_of(signal: Mapping[str, Any]) -> float:
    """Watts for each unit; watts are what is meant where nothing is said."""
    measured = signal.get("measurement") or {}
    return _SCALES[str(measured.get("scale") or "none")]


def is_confidential(url: str) -> bool:
    """Whether what is sent there is read by nobody else: TLS, or this machine.

    >>> is_confidential("https://vtn.example/x"), is_confidential("http://127.0.0.1:8081/x"), is_confidential("http://vtn.example")
    (True, True, False)
    """
    return _CONFIDENTIAL.fullmatch(url) is not None


def checked_id(value: object) -> str:
    """An id as text; openleadr reads what looks like a number as one.

    Raises:
        ValueError: it is empty, too long, or has characters that can't be printed.
    """
    text = str(value)
    if value is None or not 0 < len(text) <= MAX_ID_CHARS:
        raise ValueError(f"an id of {len(text)} characters, there are 1 to {MAX_ID_CHARS}")
    if not text.isprintable():
        raise ValueError(f"an id with characters that can't be printed: {text!a}")
    return text


def instant_of(value: object) -> datetime:
    """An aware instant, UTC.

    Raises:
        ValueError: it is none.
    """
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    if found.tzinfo is None:
        raise ValueError(f"{str(value)[:40]} has no offset")
    return found.astimezone(UTC)


def finite(value: object) -> float:
    """A number.

    Raises:
        ValueError: it is none, or has no end.
    """
    number = float(str(value))
    if not math.isfinite(number):
        raise ValueError(f"{number} is no amount")
    return number
