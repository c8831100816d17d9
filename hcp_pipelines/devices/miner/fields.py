"""Reading replies that are almost what they should be: numbers as text, blanks, missing rows. Pure.

What is missing is an error that shows the reply, never a zero.
"""

import json
from collections.abc import Mapping
from typing import Any

from hcp_pipelines.domain.errors import DeviceReplyError

Json = Mapping[str, Any]
EXCERPT = 160


def row(reply: Any, name: str, index: int = 0) -> Json:
    """A row of a reply's list.

    Raises:
        DeviceReplyError: there is none.
    """
    rows = reply.get(name) if isinstance(reply, Mapping) else None
    found = rows[index] if isinstance(rows, list) and len(rows) > index else None
    if isinstance(found, Mapping):
        return found
    raise DeviceReplyError(f"no {name}[{index}] in {shown(reply)}")


def part(reply: Any, name: str) -> Json:
    """An object within a reply.

    Raises:
        DeviceReplyError: there is none.
    """
    value = reply.get(name) if isinstance(reply, Mapping) else None
    if isinstance(value, Mapping):
        return value
    raise DeviceReplyError(f"no object {name} in {shown(reply)}")


def maybe(values: Json, *names: str) -> float | None:
    """The first of these that is a number, or a text of one.

    >>> maybe({"GHS 5s": "15679.6", "GHS av": 1}, "GHS 5s"), maybe({"a": ""}, "a", "b")
    (15679.6, None)
    """
    for name in names:
        value = values.get(name)
        if isinstance(value, bool):
            continue
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):  # a whole number of 400 digits is too large for a float
            continue
        if number == number and abs(number) != float("inf"):  # noqa: PLR0124 - not NaN
            return number
    return None


def number(values: Json, *names: str) -> float:
    """The same, where it must be there.

    Raises:
        DeviceReplyError: it is not.
    """
    value = maybe(values, *names)
    if value is None:
        raise DeviceReplyError(f"no number {' or '.join(names)} in {shown(values)}")
    return value


def hottest_chip(stats: Json) -> float | None:
    """°C of the hottest chip in `STATS`: a list a board, or four numbers in a text; zeros are sensors that don't answer.

    >>> hottest_chip({"chain": [{"temp_chip": [61, 64, 0, 0]}, {}]}), hottest_chip({"temp_chip1": "50-52-66-0"})
    (64.0, 66.0)
    """
    boards = stats.get("chain")
    told = [one.get("temp_chip") for one in boards if isinstance(one, Mapping)] if isinstance(boards, list) else []
    told += [str(value).split("-") for key, value in stats.items() if key.startswith("temp_chip")]
    chips = [maybe({"chip": chip}, "chip") for board in told if isinstance(board, list) for chip in board]
    return max((chip for chip in chips if chip), default=None)


def shown(value: Any) -> str:
    """A reply's beginning, for messages."""
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}… ({len(text)} characters)"
