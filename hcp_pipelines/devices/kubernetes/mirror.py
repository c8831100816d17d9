"""A kind of object of the cluster as it is now: listed once, then watched, and listed anew where the watch has lost its place.

A watch that ends is begun again where it was, at the version of the last event or bookmark; 410 says that the server has
forgotten that one. Nothing is taken for current before the first whole list.
"""

import asyncio
import random
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

import structlog

from hcp_pipelines.devices.kubernetes import metrics
from hcp_pipelines.devices.kubernetes.codec import Json, decode_page, version_of
from hcp_pipelines.devices.kubernetes.transport import ApiTransport
from hcp_pipelines.devices.work import kind_of
from hcp_pipelines.domain.errors import DeviceReplyError, HcpError

WATCH_SLACK_S = 10.0  # real: so long a watch may take to tell what has come to be
PAGE = 500
WATCH_S = 300  # real: then the server ends a watch, and it is begun again
SILENT_S = 360.0
AGAIN_S = (0.1, 0.5, 1.0, 2.0, 5.0)  # real, and up to as much again, so that gateways do not come back together
LISTS = 5  # begun anew before it is said that the server forgets faster than it lists
GONE = 410

T = TypeVar("T")


class _GoneError(DeviceReplyError):
    """The server has forgotten the version from which it was to tell."""


class Mirror(Generic[T]):
    """Objects by name, and names by key; who waits for `changed` hears of each change."""

    def __init__(
        self,
        transport: ApiTransport,
        path: str,
        selector: Mapping[str, str],
        decode: Callable[[Json], T | None],
        key: Callable[[T], Hashable],
        on_gone: Callable[[T], None] = lambda _: None,
    ) -> None:
        """`decode` gives None for what is of no concern; `key`: by what objects are looked for beside their names.

        `on_gone` hears how an object was last, where the server tells that it is gone.
        """
        self._transport, self._path, self._decode, self._key = transport, path, decode, key
        self._on_gone = on_gone
        self._selector = ",".join(f"{name}={value}" for name, value in selector.items())
        self.objects: dict[str, T] = {}
        self._names: dict[Hashable, set[str]] = {}
        self.changed = asyncio.Condition()
        self._version = ""
        self._log = structlog.get_logger("devices.kubernetes").bind(path=path)

    async def load(self) -> None:
        """List all of them, page by page.

        Raises:
            HcpError: as the transport; or the server forgets each list before it is whole.
        """
        found: list[Json] = []
        more, lists = "", 0
        while True:
            params = {"limit": str(PAGE)} | ({"labelSelector": self._selector} if self._selector else {})
            answer = await self._transport.call("GET", self._path, params=params | ({"continue": more} if more else {}))
            if answer.status == GONE:  # the pages were of a version that is gone: once more from the first
                found, more, lists = [], "", lists + 1
                if lists == LISTS:
                    raise DeviceReplyError(f"GET {self._path}: status {GONE} at each of {LISTS} lists")
                await _pause(lists - 1)
                continue
            if answer.status >= 400:
                raise DeviceReplyError(f"GET {self._path}: status {answer.status}")
            items, version, more = decode_page(answer.body)
            found += items
            if not more:
                break
        self.objects, self._names, self._version = {}, {}, version
        for item in found:
            self.take(item)
        await self._tell()

    async def follow(self) -> None:
        """Watch on and on; what goes wrong is tried again."""
        tries = 0
        while True:
            try:
                await self._watch()
                tries = 0
            except _GoneError:
                metrics.WATCHES.labels("gone").inc()
                self._version = ""
                await _pause(tries)
                tries += 1
            except HcpError as error:
                metrics.WATCHES.labels(kind_of(error)).inc()
                if not tries:
                    self._log.info("a watch has ended", error=str(error))
                await _pause(tries)
                tries += 1

    def take(self, body: Json) -> None:
        """How an object is now: as a list, an event or the answer to a write has it."""
        made, name = self._decode(body), str(body["metadata"]["name"])
        self.drop(name)
        if made is not None:
            self.objects[name] = made
            self._names.setdefault(self._key(made), set()).add(name)

    def drop(self, name: str) -> None:
        """An object is gone; nothing where it is not known."""
        gone = self.objects.pop(name, None)
        if gone is not None:
            self._names[self._key(gone)].discard(name)

    def with_key(self, key: Hashable) -> list[T]:
        """Objects with a key, by name."""
        return [self.objects[name] for name in sorted(self._names.get(key, ()))]

    async def _watch(self) -> None:
        if not self._version:
            await self.load()
        params = {
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S),
        } | ({"labelSelector": self._selector} if self._selector else {})
        events = 0
        async for event in self._transport.watch(self._path, params, SILENT_S):
            events += 1
            await self._event(str(event.get("type")), event.get("object"))
        metrics.WATCHES.labels("ended").inc()
        if not events:
            await _pause(0)  # a server that ends each at once is not to be hammered

    async def _event(self, kind: str, body: object) -> None:
        if not isinstance(body, dict):
            raise DeviceReplyError(f"watch {self._path}: an event without an object")
        if kind == "ERROR":
            gone = body.get("code") == GONE
            raise (_GoneError if gone else DeviceReplyError)(f"watch {self._path}: {str(body.get('message'))[:200]}")
        self._version = version_of(body)
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            self.drop(str(body["metadata"].get("name")))
            if (last := self._decode(body)) is not None:
                self._on_gone(last)
        else:
            self.take(body)
        await self._tell()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


async def _pause(tries: int) -> None:
    await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)] * random.uniform(1.0, 2.0))  # noqa: S311 - jitter
