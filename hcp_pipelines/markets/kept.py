"""Replies that a service may be asked to repeat only where they have changed: by ETag or Last-Modified. Bounded, in memory.

Source: RFC 9110, conditional requests.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

MOST_REPLIES = 32
MOST_BYTES = 1024 * 1024  # of one body: what is larger is asked for whole

Key = tuple[str, tuple[tuple[str, str], ...]]


class Kept(NamedTuple):
    """A body as it was parsed, its headers, and what names it."""

    body: Any
    headers: Mapping[str, str]
    conditions: Mapping[str, str]


class KeptReplies:
    """The last reply to each of the newest requests."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, Kept] = OrderedDict()

    def get(self, key: Key) -> Kept | None:
        """What was answered before, if it has a name."""
        return self._kept.get(key)

    def keep(self, key: Key, body: Any, size_bytes: int, headers: Mapping[str, str]) -> None:
        """Remember a reply that can be asked for by name; forget the one before."""
        self._kept.pop(key, None)
        names = {"if-none-match": headers.get("etag"), "if-modified-since": headers.get("last-modified")}
        conditions = {header: name for header, name in names.items() if name}
        if conditions and size_bytes <= MOST_BYTES:
            self._kept[key] = Kept(body, headers, conditions)
            while len(self._kept) > MOST_REPLIES:
                self._kept.popitem(last=False)
