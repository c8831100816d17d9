"""The client itself: work submitted once, read, listed, cancelled, watched; and any other list of the API, page by page."""

import re
import stat
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeGuard, TypeVar
from uuid import UUID

import httpx
from pydantic import ValidationError

from hcp_pipelines.client.errors import ApiReplyError
from hcp_pipelines.client.events import Opened, follow
from hcp_pipelines.client.shapes import (
    Allocation,
    Allocations,
    Answer,
    Decisions,
    Depths,
    StateChanged,
    Status,
    Submission,
    Workload,
    WorkloadSpec,
)
from hcp_pipelines.client.transport import Transport, json_of
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType

WORKLOADS = "/api/v1/workloads"
PATIENCE_S = 30.0
PAGE = 100
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,200}")
Shape = TypeVar("Shape", bound=Answer)


def read_key(path: Path) -> str:
    """The API key of a file that is its owner's alone.

    Raises:
        ConfigError: there is none, or others may read it.
    """
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{path} holds an API key, and others may read it: chmod 600 {path}")
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the API key can't be read: {error}") from None
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"{path}: no API key is in it: one line hcp_PREFIX_SECRET, as POST /api/v1/auth/keys shows it"
        )
    return key


class Client:
    """The API as one account sees it; a context manager, for one thread.

    What fails in passing (no answer, 429, 503 …) is tried again for `patience_s`, never before the API's `Retry-After`; every
    method raises `ApiError`, `ApiUnreachableError` or `ApiReplyError` (client/errors.py).
    """

    def __init__(self, base_url: str, key: str, patience_s: float = PATIENCE_S) -> None:
        self._transport = Transport(base_url, key, patience_s)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the connections."""
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._transport.close()

    def submit(
        self, spec: WorkloadSpec, *, customer_id: UUID | None = None, idempotency_key: str | None = None
    ) -> Submission:
        """Have work taken into the queue, once however often it has to be said.

        The key is made here, one a call; give one of your own to call again after an error without having it done twice.

        Raises:
            ConfigError: that key is none.
        """
        key = uuid.uuid4().hex if idempotency_key is None else idempotency_key
        if _IDEMPOTENCY_KEY.fullmatch(key) is None:
            raise ConfigError(f"idempotency key {key!r}: 1 to 200 visible ASCII characters, no spaces")
        reply = self._transport.ask(
            "POST",
            f"{WORKLOADS}/submit",
            params={} if customer_id is None else {"customer_id": str(customer_id)},
            body=spec.model_dump(mode="json", exclude_unset=True),
            headers={"Idempotency-Key": key},
        )
        is_repeat = reply.headers.get("idempotent-replayed") == "true"
        return _shaped(Submission, reply).model_copy(update={"is_repeat": is_repeat})

    def workload(self, workload_id: UUID) -> Workload:
        """One workload."""
        return _shaped(Workload, self._transport.ask("GET", f"{WORKLOADS}/{workload_id}"))

    def status(self, workload_id: UUID) -> Status:
        """Its state alone."""
        return _shaped(Status, self._transport.ask("GET", f"{WORKLOADS}/{workload_id}/status"))

    def decisions(self, workload_id: UUID, limit: int = 3) -> Decisions:
        """Why it is where it is, or nowhere yet: the newest decisions, at most 50."""
        return _shaped(
            Decisions, self._transport.ask("GET", f"{WORKLOADS}/{workload_id}/decisions", params={"limit": limit})
        )

    def allocations(self, workload_id: UUID, limit: int = 3) -> tuple[Allocation, ...]:
        """The devices that it has and has had, newest first, at most 50, with what those that are over used and cost."""
        path = f"{WORKLOADS}/{workload_id}/allocations"
        return _shaped(Allocations, self._transport.ask("GET", path, params={"limit": limit})).items

    def cancel(self, workload_id: UUID) -> Status:
        """Cancel what is not over."""
        return _shaped(Status, self._transport.ask("PUT", f"{WORKLOADS}/{workload_id}/cancel"))

    def queue_depths(self) -> Depths:
        """How much waits at each priority."""
        return _shaped(Depths, self._transport.ask("GET", f"{WORKLOADS}/queue/depth"))

    def workloads(
        self,
        *,
        status: WorkloadState | None = None,
        type: WorkloadType | None = None,  # noqa: A002 - the API's name
        priority: int | None = None,
        customer_id: UUID | None = None,
        submitted_from: datetime | None = None,
        submitted_until: datetime | None = None,
        page: int = PAGE,
    ) -> Iterator[Workload]:
        """Workloads, newest first; pages are read as they are needed."""
        asked = {
            "status": status,
            "type": type,
            "priority": priority,
            "customer_id": customer_id,
            "submitted_from": submitted_from and submitted_from.isoformat(),
            "submitted_until": submitted_until and submitted_until.isoformat(),
        }
        for row in self.rows(WORKLOADS, {name: str(value) for name, value in asked.items() if value is not None}, page):
            yield _valid(Workload, row, WORKLOADS)

    def rows(
        self, path: str, params: Mapping[str, str] | None = None, page: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """The rows of any list of the API, such as `/api/v1/resources`, page by page where it has pages.

        `page`: rows of one, for lists that take `limit`; None: as many as the API gives.
        """
        asked: dict[str, Any] = dict(params or {}) | ({} if page is None else {"limit": page})
        while True:
            found = json_of(self._transport.ask("GET", path, params=asked))
            if not isinstance(found, dict) or not isinstance(found.get("items"), list):
                raise ApiReplyError(f"{path}: that is no list with `items`")
            yield from found["items"]
            if found.get("next") is None:
                return
            asked["after"] = found["next"]

    def events(self, after: int | None = None) -> Iterator[StateChanged]:
        """State changes behind an event (0: all), or from now on; without end.

        None is lost while a connection is away, once the stream has stood or where `after` is given.
        """
        for told in follow(self._transport, after):
            if isinstance(told, StateChanged):
                yield told

    def watch(self, workload_id: UUID) -> Iterator[StateChanged]:
        """The state of a workload, then each that follows, up to the last one.

        A connection that breaks before anything was heard is mended by reading the state: what came between is told as one.
        """
        known: StateChanged | None = None
        for told in follow(self._transport, None):
            is_elsewhere = told.workload_id != workload_id if isinstance(told, StateChanged) else told.after is not None
            if is_elsewhere:
                continue
            found = told if _is_next(told, known) else self._now(workload_id, known)
            if found is not None:
                known = found
                yield found
                if found.new_state.is_final:
                    return

    def _now(self, workload_id: UUID, known: StateChanged | None) -> StateChanged | None:
        """The state as it is, where that is news."""
        found = self.status(workload_id)
        if known is not None and (known.new_state, known.timestamp) == (found.status, found.changed_at):
            return None
        return StateChanged(
            workload_id=workload_id,
            old_state=known and known.new_state,
            new_state=found.status,
            is_waiting=None,
            reason=found.reason,
            actor="",
            timestamp=found.changed_at,
        )


def _is_next(told: Opened | StateChanged, known: StateChanged | None) -> TypeGuard[StateChanged]:
    """Whether it goes on from what is known. Else the state is read: the stream began before it, and may tell what led to it."""
    if known is None or isinstance(told, Opened):
        return False
    return told.old_state == known.new_state and told.timestamp >= known.timestamp


def _shaped(shape: type[Shape], reply: httpx.Response) -> Shape:
    return _valid(shape, json_of(reply), str(reply.request.url.path))


def _valid(shape: type[Shape], value: Any, path: str) -> Shape:
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ApiReplyError(f"{path}: not as this client knows it: {where}: {first['msg']}") from None
