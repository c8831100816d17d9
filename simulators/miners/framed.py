"""Port 4433, WhatsMiner V3: length (4 bytes, little-endian) and JSON both ways. What is answered is in `whatsminer_v3`.

A frame of length 0 is a heartbeat. Source: MicroBT's API 3 documentation, as its users quote it.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from simulators.miners.conversation import DEADLINE_S, MAX_REQUEST_BYTES, Conversation, Desk
from simulators.miners.firmware import Dialect
from simulators.miners.miner import Miner

Json = dict[str, Any]
FAIL, INVALID_COMMAND, INVALID_JSON, NO_PERMISSION = -1, -2, -3, -4
_WORD: Final = 4


class FramedTalk(Conversation):
    """One connection to port 4433; it may carry several requests."""

    takes_many = True

    def __init__(self, desk: Desk, answer: Callable[[Miner, Json], Json]) -> None:
        super().__init__(desk)
        self._answer = answer
        self._served = 0

    def serves(self, miner: Miner) -> bool:
        """Only WhatsMiners of version 3 do."""
        return miner.firmware.dialect is Dialect.WHATSMINER_V3

    def received(self) -> None:
        """Answer every frame that is whole."""
        while len(self.buffer) >= _WORD and self.takes_more:
            length = int.from_bytes(self.buffer[:_WORD], "little")
            if length > MAX_REQUEST_BYTES:
                self.refuse(f"a frame of {length} bytes; the limit is {MAX_REQUEST_BYTES}")
                return
            if len(self.buffer) < _WORD + length:
                return
            text = bytes(self.buffer[_WORD : _WORD + length])
            del self.buffer[: _WORD + length]
            if text:
                self._take(text)

    def refusal(self, problem: str) -> bytes:
        """An error frame."""
        return encode(v3_reply(self.miner, "", problem, INVALID_JSON))

    def late(self) -> None:
        """An idle connection ends silently, half a frame is told off."""
        if self.buffer or not self._served:
            super().late()
        else:
            self.finish(b"")

    def _take(self, text: bytes) -> None:
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            self.refuse("a frame that holds no JSON object")
            return
        self._served += 1
        self.send(encode(self._answer(self.miner, request)))
        self.wait(DEADLINE_S)


def v3_reply(miner: Miner, command: str, message: object, code: int = 0) -> Json:
    """The block that every reply of API 3 is."""
    return {"code": code, "when": int(miner.now_s), "msg": message, "desc": command}


def encode(reply: Json) -> bytes:
    """A reply as a frame."""
    text = json.dumps(reply, separators=(",", ":")).encode()
    return len(text).to_bytes(_WORD, "little") + text
