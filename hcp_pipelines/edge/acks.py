"""The acks a gateway remembers, so that a repeated command is answered as the first time. Bounded in number and bytes."""

from collections import OrderedDict

ACKS_MAX = 20_000
ACKS_MAX_BYTES = 32 * 1024 * 1024


class Acks:
    """Serialised acks by command id, oldest first out: a state is absolute, so repeating a forgotten command is harmless."""

    def __init__(self, most: int = ACKS_MAX, most_bytes: int = ACKS_MAX_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._acks: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, command_id: str) -> bytes | None:
        """The ack of a command; None when it is not known."""
        return self._acks.get(command_id)

    def remember(self, command_id: str, ack: bytes) -> None:
        """Keep an ack."""
        self._bytes += len(ack) - len(self._acks.pop(command_id, b""))
        self._acks[command_id] = ack
        while len(self._acks) > self._most or self._bytes > self._most_bytes:
            self._bytes -= len(self._acks.popitem(last=False)[1])

    def __len__(self) -> int:
        return len(self._acks)
