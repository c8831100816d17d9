"""Stratum V1's lines: JSON objects in, and what is said back. Pure.

Source: the Stratum mining protocol as pools document it (error codes 20 to 25, word order of the previous hash); BIP 310.
"""

import struct
from enum import IntEnum
from typing import Any, Final, NamedTuple

import orjson

from simulators.pool.jobs import Job

MOST_LINE_BYTES: Final = 4096
MOST_PARAMS: Final = 16


class Code(IntEnum):
    """Why a request is refused."""

    OTHER = 20
    JOB_NOT_FOUND = 21
    DUPLICATE = 22
    LOW_DIFFICULTY = 23
    UNAUTHORIZED = 24
    NOT_SUBSCRIBED = 25


class RefusedError(Exception):
    """A request is answered with an error."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class MalformedError(Exception):
    """A line is no request."""


class Request(NamedTuple):
    """One of a miner's."""

    id: Any
    method: str
    params: list[Any]


def parse(line: bytes) -> Request:
    """The request of a line.

    Raises:
        MalformedError: it isn't one.
    """
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        reason = f"not JSON: {error}"
        raise MalformedError(reason) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("method"), str):
        reason = "not an object with a method"
        raise MalformedError(reason)
    params = raw.get("params") or []
    if not isinstance(params, list) or len(params) > MOST_PARAMS:
        reason = f"params must be a list of at most {MOST_PARAMS}"
        raise MalformedError(reason)
    if not isinstance(raw.get("id"), int | str | float | None):
        reason = "id must be a number, a text or null"
        raise MalformedError(reason)
    return Request(raw.get("id"), raw["method"], params)


def reply(id_: Any, result: Any) -> bytes:
    """A request is granted."""
    return _line({"id": id_, "result": result, "error": None})


def refusal(id_: Any, code: Code, reason: str) -> bytes:
    """A request is not granted."""
    return _line({"id": id_, "result": None, "error": [int(code), reason, None]})


def set_difficulty(difficulty: float) -> bytes:
    """The difficulty of jobs that come from now on; a whole number is written as one, as most pools do."""
    shown = int(difficulty) if difficulty.is_integer() else difficulty
    return _line({"id": None, "method": "mining.set_difficulty", "params": [shown]})


def notify(job_id: str, job: Job, *, is_clean: bool) -> bytes:
    """A job."""
    template = job.template
    params = [
        job_id,
        swapped_words(template.previous_hash).hex(),
        template.coinbase_head.hex(),
        template.coinbase_tail.hex(),
        [branch.hex() for branch in template.branches],
        f"{template.version:08x}",
        f"{template.bits:08x}",
        f"{template.time_s:08x}",
        is_clean,
    ]
    return _line({"id": None, "method": "mining.notify", "params": params})


def swapped_words(data: bytes) -> bytes:
    """Eight words of four bytes, each turned round: how V1 writes the previous hash.

    >>> swapped_words(bytes(range(8)) + bytes(24))[:8].hex()
    '0302010007060504'
    """
    return struct.pack("<8I", *struct.unpack(">8I", data))


def hex_bytes(what: str, value: Any, size: int) -> bytes:
    """The bytes of a hex text of a fixed length.

    Raises:
        RefusedError: it isn't one.
    """
    if not isinstance(value, str) or len(value) != 2 * size:
        raise RefusedError(Code.OTHER, f"{what} must be {2 * size} hex digits")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise RefusedError(Code.OTHER, f"{what} must be {2 * size} hex digits") from None


def _line(message: dict[str, Any]) -> bytes:
    return orjson.dumps(message) + b"\n"
