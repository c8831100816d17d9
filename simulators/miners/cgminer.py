"""Port 4028: one JSON object in, one JSON object out, then closed. Framing, joined commands and status blocks of the family.

The request is parsed as it arrives, without waiting for a newline or for the client to close. Each dialect's answers are in its
own module. Source: the API-README of cgminer; docs.luxor.tech/firmware/api/intro.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from simulators.miners.conversation import Conversation, Desk
from simulators.miners.miner import Miner
from simulators.miners.plain_text import command_of

Json = dict[str, Any]

INVALID_COMMAND, INVALID_JSON, NO_COMMAND, DENIED = 14, 23, 24, 45
MAX_JOINED: Final = 32
_HTTP_REFUSAL: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_MARKS: Final = re.compile(rb'\\.|["{}]', re.DOTALL)
_HTTP: Final = re.compile(rb"[A-Z]{3,7} ")
_BLANK: Final = b" \t\r\n\0"
_LONGEST_METHOD: Final = 8


class Reply(NamedTuple):
    """What goes back, and after how many real seconds; no bytes: the connection just ends."""

    body: bytes
    after_s: float = 0.0


class MalformedError(Exception):
    """What arrived is not a JSON object, and will not become one."""


class Framer:
    """Finds the end of the first JSON object in bytes that arrive in pieces; looks at each byte once."""

    def __init__(self) -> None:
        self._at = 0
        self._depth = 0
        self._is_text = False

    def take(self, buffer: bytearray) -> Json | None:
        """The object, once it is whole.

        Raises:
            MalformedError: it is none.
        """
        first = bytes(buffer[:64]).lstrip(_BLANK)[:1]
        if first and first != b"{":
            message = "bytes that are not a JSON object"
            raise MalformedError(message)
        for mark in _MARKS.finditer(buffer, self._at):
            self._at = mark.end()
            if self._closes(mark[0]):
                return _parse(bytes(buffer[: self._at]).lstrip(_BLANK))
        if not (self._is_text and buffer.endswith(b"\\")):
            self._at = len(buffer)
        return None

    def _closes(self, mark: bytes) -> bool:
        if mark == b'"':
            self._is_text = not self._is_text
        elif mark in (b"{", b"}") and not self._is_text:
            self._depth += 1 if mark == b"{" else -1
            return self._depth <= 0
        return False


class Answers(NamedTuple):
    """What one dialect does on port 4028; `in_text`: its reply to a command in text, where it takes any."""

    answer: Callable[[Miner, Json], Reply]
    refusal: Callable[[Miner, str], bytes]
    in_text: Callable[[Miner, str], Reply] | None = None


class CgminerTalk(Conversation):
    """One connection to port 4028."""

    def __init__(self, desk: Desk, dialects: Mapping[object, Answers]) -> None:
        super().__init__(desk)
        self._dialects = dialects
        self._framer = Framer()

    def serves(self, miner: Miner) -> bool:
        """All miners do, but those that closed the port for good."""
        return miner.firmware.has_4028

    def received(self) -> None:
        """Answer the first whole object; turn HTTP away in its own words."""
        if self.buffer[:1].isupper():
            self._refuse_http()
            return
        dialect = self._dialects[self.miner.firmware.dialect]
        if dialect.in_text is not None and (command := command_of(bytes(self.buffer))) is not None:
            self.finish(dialect.in_text(self.miner, command).body)
            return
        try:
            request = self._framer.take(self.buffer)
        except MalformedError as error:
            self.refuse(str(error))
            return
        if request is not None:
            reply = dialect.answer(self.miner, request)
            self.finish(reply.body, reply.after_s)

    def refusal(self, problem: str) -> bytes:
        """An error reply as the dialect writes it."""
        return self._dialects[self.miner.firmware.dialect].refusal(self.miner, problem)

    def _refuse_http(self) -> None:
        if _HTTP.match(self.buffer):
            self.desk.complaints.say(self.miner.address, "HTTP on port 4028")
            self.finish(_HTTP_REFUSAL)
        elif len(self.buffer) >= _LONGEST_METHOD or not self.buffer.isupper():
            self.refuse("bytes that are not a JSON object")


def status(code: int, text: str, description: str, when: int, kind: str = "S") -> Json:
    """The block that every reply of the cgminer family begins with."""
    return {"STATUS": kind, "When": when, "Code": code, "Msg": text, "Description": description}


def dump(reply: Json) -> bytes:
    """A reply as the family sends it: JSON and a zero byte."""
    return json.dumps(reply, separators=(",", ":")).encode() + b"\0"


def join(names: list[str], one: Callable[[str], Json]) -> Json:
    """The reply to `a+b`: each command's own reply in a list under its name, once, for as many as are joined in earnest."""
    return {name: [one(name)] for name in dict.fromkeys(filter(None, names[:MAX_JOINED]))} | {"id": 1}


def _parse(text: bytes) -> Json:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = "malformed JSON"
        raise MalformedError(message) from error
    if not isinstance(value, dict):
        message = "JSON that is no object"
        raise MalformedError(message)
    return value
