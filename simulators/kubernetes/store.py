"""Objects by kind and name with their versions, and the events since some version: what a watch tells.

Every change has the next version, over all kinds. Events older than the last compaction are gone, and so is who asks for them.
"""

import asyncio
import copy
from typing import Any, NamedTuple

Json = dict[str, Any]


class Event(NamedTuple):
    """A change of an object; the object as it was then."""

    version: int
    what: str  # ADDED, MODIFIED, DELETED
    kind: str
    body: Json


class Store:
    """All objects of a cluster."""

    def __init__(self) -> None:
        self.version = 1_000
        self._objects: dict[tuple[str, str], Json] = {}
        self._events: list[Event] = []
        self._forgotten = self.version
        self.changed = asyncio.Event()

    def get(self, kind: str, name: str) -> Json | None:
        """An object as it is now; the caller changes a copy."""
        return self._objects.get((kind, name))

    def all(self, kind: str) -> list[Json]:
        """Objects of a kind, by name."""
        return [body for (own, _), body in sorted(self._objects.items()) if own == kind]

    def put(self, kind: str, body: Json) -> Json:
        """Store an object under its name; it has a new version."""
        name = body["metadata"]["name"]
        what = "MODIFIED" if (kind, name) in self._objects else "ADDED"
        return self._note(what, kind, copy.deepcopy(body))

    def remove(self, kind: str, name: str) -> None:
        """Remove an object; nothing where there is none."""
        body = self._objects.pop((kind, name), None)
        if body is not None:
            self._note("DELETED", kind, copy.deepcopy(body))

    def compact(self) -> None:
        """Forget all events so far."""
        self._events, self._forgotten = [], self.version

    def has(self, version: int) -> bool:
        """Whether all events after a version are known."""
        return version >= self._forgotten

    def since(self, version: int, kind: str) -> list[Event]:
        """Events of a kind after a version."""
        return [event for event in self._events if event.version > version and event.kind == kind]

    def _note(self, what: str, kind: str, body: Json) -> Json:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        if what != "DELETED":
            self._objects[kind, body["metadata"]["name"]] = body
        self._events.append(Event(self.version, what, kind, body))
        self.changed.set()
        self.changed = asyncio.Event()
        return body


def matches(body: Json, selector: str) -> bool:
    """Whether an object has the labels of an equality selector.

    >>> matches({"metadata": {"labels": {"a": "1", "b": "2"}}}, "a=1,b=2"), matches({"metadata": {}}, "a=1")
    (True, False)
    """
    labels = body["metadata"].get("labels", {})
    pairs = (part.split("=", 1) for part in selector.split(",") if part)
    return all(labels.get(name) == value for name, value in pairs)
