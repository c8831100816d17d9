"""Which XIDs have been dealt with: `xids.json` in the gateway's folder of the facility, so that none is acted on twice.

By node address and GPU index. Written whole and synced before an action begins; a handful of lines, for GPUs with an XID only.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import structlog

from hcp_pipelines.domain.errors import StorageError

_NAMESPACE = UUID("6a0f2a0e-2c2e-4d1d-9a51-0b2f5f2f4a11")


@dataclass(frozen=True, slots=True)
class XidEvent:
    """The last XID of a GPU. `number` counts the events of this GPU, so that each has request ids of its own."""

    code: int
    number: int
    is_open: bool  # there is something to do yet
    has_begun: bool = False
    was_drained: bool = False  # before we did
    operations: tuple[str, ...] = ()  # of the agent; empty also where we ended before we could note them

    def request_id(self, gpu: str) -> str:
        """The same for the same event, also after a restart of the gateway."""
        return uuid5(_NAMESPACE, f"{gpu}/{self.code}/{self.number}").hex


class XidRecord:
    """The record of one facility."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / "xids.json"
        self._known = _read(self._path)
        self._writing = asyncio.Lock()

    def last(self, gpu: str) -> XidEvent | None:
        """The last event of a GPU."""
        return self._known.get(gpu)

    async def begin(self, gpu: str, code: int, *, is_open: bool) -> XidEvent:
        """Note an event; it is on the disk when this returns.

        Raises:
            StorageError: the disk refused; nothing may be done then.
        """
        last = self._known.get(gpu)
        event = XidEvent(code, last.number + 1 if last else 1, is_open)
        await self.write(gpu, event)
        return event

    async def end(self, gpu: str) -> None:
        """There is nothing more to do about the last event."""
        last = self._known.get(gpu)
        if last is not None and last.is_open:
            await self.write(gpu, replace(last, is_open=False))

    async def write(self, gpu: str, event: XidEvent) -> None:
        """Keep an event.

        Raises:
            StorageError: the disk refused.
        """
        async with self._writing:
            known = self._known | {gpu: event}
            text = json.dumps({name: asdict(one) for name, one in known.items()}, indent=0)
            try:
                await asyncio.to_thread(self._replace, text)
            except OSError as error:
                raise StorageError(f"{self._path}: {error.strerror}; the XID is not acted on") from error
            self._known = known

    def _replace(self, text: str) -> None:
        fresh = self._path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def _read(path: Path) -> dict[str, XidEvent]:
    """What is on the disk. A file that makes no sense is put aside: then XIDs that are still shown count as new."""
    if not path.exists():
        return {}
    try:
        return {str(gpu): _event(**event) for gpu, event in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        aside = path.with_suffix(".broken")
        path.replace(aside)
        structlog.get_logger("devices.gpu_node").error(
            "the record of XIDs can't be read", moved_to=str(aside), error=str(error)
        )
        return {}


def _event(operations: Sequence[str], **rest: Any) -> XidEvent:
    return XidEvent(operations=tuple(operations), **rest)
