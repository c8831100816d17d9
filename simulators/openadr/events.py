"""The events that stand, each with its modification number: the scenario's as they fall due, and what is published by hand.

Instants are simulated Unix seconds. How an event is written is in `messages` (2.0b) and `objects` (3.1).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from simulators.grid_calls import GridCall
from simulators.script import Script
from simulators.settings import SiteConfig

Kind = Literal["response", "deployment", "alert", "base_point"]
KEPT_S: Final = 3600.0  # after its end an event is told no more
MAX_EVENTS: Final = 500
LONGEST_S: Final = 86_400.0  # of a call: what is under way as the world starts is told again


@dataclass(frozen=True)
class Event:
    """What is asked of some sites over [start, start + duration).

    `value`: of a response and of a base point MW, the same of each site; of an alert and of a deployment its level.
    """

    event_id: str
    kind: Kind
    programme: str
    sites: tuple[str, ...]
    start_s: float
    duration_s: float
    value: float
    ramp_s: float = 0.0
    notice_s: float = 0.0
    told_at_s: float = 0.0
    changed_at_s: float = 0.0
    modification: int = 0
    is_cancelled: bool = False

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.start_s + self.duration_s

    def status(self, now_s: float) -> str:
        """As a descriptor says it: far, near (within its ramp), active, completed, or cancelled."""
        if self.is_cancelled:
            return "cancelled"
        if now_s >= self.end_s:
            return "completed"
        if now_s >= self.start_s:
            return "active"
        return "near" if now_s >= self.start_s - self.ramp_s else "far"


class EventBook:
    """The events by id."""

    def __init__(self, script: Script, sites: list[SiteConfig], now_s: Callable[[], float]) -> None:
        self._script = script
        self._sites = sites
        self._now_s = now_s
        self._events: dict[str, Event] = {}

    def publish(self, event: Event) -> None:
        """Tell an event from now on; a known one is told as modified.

        Raises:
            ValueError: there are too many.
        """
        known = self._events.get(event.event_id)
        if known is None and len(self._events) >= MAX_EVENTS:
            message = f"more than {MAX_EVENTS} events at once"
            raise ValueError(message)
        number = 0 if known is None else known.modification + 1
        self._events[event.event_id] = replace(event, modification=number, changed_at_s=self._now_s())

    def cancel(self, event_id: str) -> None:
        """Tell that an event is cancelled; a second time changes nothing.

        Raises:
            KeyError: there is none of that id.
        """
        if not self._events[event_id].is_cancelled:
            self.publish(replace(self._events[event_id], is_cancelled=True))

    def get(self, event_id: str) -> Event | None:
        """The event of that id."""
        return self._events.get(event_id)

    def standing(self) -> list[Event]:
        """What is to be told now, in the order of beginnings; what has ended is told no more."""
        self.catch_up()
        now_s = self._now_s()
        return sorted((e for e in self._events.values() if now_s < e.end_s), key=lambda e: (e.start_s, e.event_id))

    def programmes(self) -> set[tuple[str, str]]:
        """Kind and programme of all that is told now, or will be by the script."""
        called = {(call.kind, call.programme) for call in self._script.scenario.grid}
        return called | {(event.kind, event.programme) for event in self.standing()}

    def catch_up(self) -> None:
        """Publish, cancel and forget what is due by the script and the clock."""
        now_s = self._now_s()
        for event, cancelled_s in self._scripted(now_s - LONGEST_S, now_s):
            if event.event_id not in self._events and now_s < event.end_s:
                self.publish(event)
            known = self._events.get(event.event_id)
            if known and cancelled_s is not None and cancelled_s <= now_s and not known.is_cancelled:
                self.cancel(event.event_id)
        for event in [event for event in self._events.values() if now_s >= event.end_s + KEPT_S]:
            del self._events[event.event_id]

    def _scripted(self, since_s: float, now_s: float) -> Iterator[tuple[Event, float | None]]:
        """Events of the script that have been told by now, with when they are cancelled; an alert is one for all sites."""
        longest_s = max((call.notice_minutes for call in self._script.scenario.grid), default=0.0) * 60.0
        for number, call, start_s in self._script.calls_between(since_s, now_s + longest_s + 1e-6):
            if start_s - call.notice_minutes * 60.0 <= now_s:
                cancelled_s = (
                    None if call.cancelled_at_h is None else start_s + (call.cancelled_at_h - call.at_h) * 3600.0
                )
                yield from ((event, cancelled_s) for event in self._events_of(number, call, start_s))

    def _events_of(self, number: int, call: GridCall, start_s: float) -> Iterator[Event]:
        called = [site for place, site in enumerate(self._sites) if call.site in (None, place)]
        groups = [called] if call.kind == "alert" else [[site] for site in called]
        for group in filter(None, groups):
            place = "all" if call.kind == "alert" else group[0].site
            is_mw = call.kind in ("response", "base_point")
            yield Event(
                event_id=f"{call.kind}-{number}-{place}-{start_s:.0f}",
                kind=call.kind,
                programme=call.programme,
                sites=tuple(site.site for site in group),
                start_s=start_s,
                duration_s=call.minutes * 60.0,
                value=round(call.fraction * full_mw(group[0]), 6) if is_mw else float(call.level or 1),
                ramp_s=call.ramp_minutes * 60.0,
                notice_s=call.notice_minutes * 60.0,
                told_at_s=start_s - call.notice_minutes * 60.0,
            )


def full_mw(site: SiteConfig) -> float:
    """What a site draws with all devices in their highest state, MW with PUE."""
    return sum(group.devices * max(state.power_w for state in group.states) for group in site.groups) * site.pue / 1e6
