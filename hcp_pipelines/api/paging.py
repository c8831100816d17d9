"""Keyset paging: `limit` and an opaque `after`, which is the last row's key. No offsets: they skip and double rows."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

from hcp_pipelines.api.problems import ProblemError

MOST = 200
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")  # JSON may say one; nothing can keep it
Row = TypeVar("Row")
Limit = Annotated[int, Query(ge=1, le=MOST, description="Rows of a page.", examples=[50])]
After = Annotated[
    str | None, Query(max_length=500, description="`next` of the page before.", examples=["WyJob3UtMSJd"])
]


def cursor_of(key: Sequence[Any]) -> str:
    """The opaque form of a key.

    >>> key_of(cursor_of(["hou-1", 7]), (str, int))
    ('hou-1', 7)
    """
    return base64.urlsafe_b64encode(json.dumps(list(key), default=str).encode()).decode().rstrip("=")


def key_of(cursor: str, kinds: Sequence[type]) -> tuple[Any, ...]:
    """The key of a cursor.

    Raises:
        ProblemError: it is none of ours.
    """
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        key = None
    is_key = isinstance(key, list) and len(key) == len(kinds)
    if not is_key or not all(_is_a(value, kind) for value, kind in zip(key, kinds, strict=True)):
        raise ProblemError(400, "query.after: take it from `next` of the page before, as it is")
    return tuple(key)


def _is_a(value: Any, kind: type) -> bool:
    if kind is int:
        return type(value) is int and abs(value) < 2**63
    return isinstance(value, str) and "\x00" not in value and not _LONE_SURROGATE.search(value)


def page(rows: Sequence[Row], limit: int, key: Callable[[Row], Sequence[Any]]) -> tuple[list[Row], str | None]:
    """The page of rows that were read with one to spare, and the next page's cursor."""
    shown = list(rows[:limit])
    return shown, cursor_of(key(shown[-1])) if len(rows) > limit else None
