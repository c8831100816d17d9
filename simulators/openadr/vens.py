"""The VENs that are registered: who they are, what they have answered and reported, what waits for their next poll."""

import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from simulators.openadr.config import MAX_VENS
from simulators.openadr.events import Event
from simulators.openadr.messages import Asked

MAX_SAMPLES: Final = 10_000
MAX_POINTS: Final = 256
MAX_OPTS: Final = 1000


class Sample(NamedTuple):
    """One reported value; `at_s` simulated Unix seconds."""

    at_s: float
    value: float


class Opt(NamedTuple):
    """What a VEN has said of an event, or of a time: optIn or optOut, and why."""

    event_id: str
    modification: int
    opt_type: str
    reason: str = ""


class Refusal(Exception):  # noqa: N818 - an answer of the protocol
    """An application error of OpenADR: code and description."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description


@dataclass
class Ven:
    """One registered VEN."""

    name: str
    ven_id: str = field(default_factory=lambda: f"VEN-{uuid.uuid4()}")
    registration_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    last_poll: int = 0  # a number that rises with each poll of anybody; 0: none yet
    answers: dict[str, Opt] = field(default_factory=dict)
    opts: dict[str, Opt] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    resource_of: dict[str, str] = field(default_factory=dict)  # by rID
    samples: dict[str, deque[Sample]] = field(default_factory=dict)  # by rID
    waiting: deque[bytes] = field(default_factory=lambda: deque(maxlen=32))

    def has_answered(self, event: Event) -> bool:
        """Whether it has said in or out to the event as it is now."""
        answer = self.answers.get(event.event_id)
        return answer is not None and answer.modification == event.modification

    def report(self, r_id: str, sample: Sample) -> None:
        """Keep a value of a point that was asked for.

        Raises:
            Refusal: it was not.
        """
        if not any(r_id == known for asked in self.asked.values() for known, _ in asked.points):
            raise Refusal(452, f"no report of rID {r_id[:60]} was asked for")
        self.samples.setdefault(r_id, deque(maxlen=MAX_SAMPLES)).append(sample)


class Vens:
    """All of them. Who registers again with its registration is the same VEN; a name alone is nobody's."""

    def __init__(self) -> None:
        self._by_id: dict[str, Ven] = {}
        self._polls = 0
        self._called: deque[str] = deque(maxlen=MAX_VENS)

    def __iter__(self) -> Iterator[Ven]:
        return iter(list(self._by_id.values()))

    def call_back(self, ven_id: str) -> None:
        """A VEN that is not known is told to register again: it may do so with what it has of an earlier world."""
        self._called.append(ven_id)

    def register(self, name: str, registration_id: str = "", ven_id: str = "") -> Ven:
        """The VEN of that registration, or a new one; where there are too many another has to go.

        Raises:
            Refusal: it has no name, or its registration is none of here.
        """
        if not name:
            raise Refusal(454, "oadrVenName is needed")
        known = next((ven for ven in self._by_id.values() if ven.registration_id == registration_id), None)
        if known is not None:
            known.name = name
            return known
        if registration_id and ven_id not in self._called:
            raise Refusal(452, "no such registrationID: register without one")
        if len(self._by_id) >= MAX_VENS:
            self._evict()
        made = Ven(name)
        self._by_id[made.ven_id] = made
        return made

    def polled(self, ven: Ven) -> None:
        """It has asked for what is new."""
        self._polls += 1
        ven.last_poll = self._polls

    def _evict(self) -> None:
        """Forget the VEN that is longest without a poll: first of those that never have, the earliest."""
        longest = min(self._by_id.values(), key=lambda ven: ven.last_poll)
        del self._by_id[longest.ven_id]

    def get(self, ven_id: str) -> Ven | None:
        """The VEN of that id."""
        return self._by_id.get(ven_id)

    def cancel(self, registration_id: str) -> Ven:
        """Forget a VEN.

        Raises:
            Refusal: there is no such registration.
        """
        for ven_id, ven in list(self._by_id.items()):
            if ven.registration_id == registration_id:
                return self._by_id.pop(ven_id)
        raise Refusal(452, "no such registrationID")
