"""What a gateway remembers to answer what is repeated as the first time: acks and direct orders. Bounded in number and bytes."""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from hcp_pipelines.wire import edge_v1_pb2 as pb

ACKS_MAX = 20_000
ACKS_MAX_BYTES = 32 * 1024 * 1024
ORDERS_MAX = 1_000


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

    def newest(self, most: int) -> Iterator[bytes]:
        """The last so many, oldest first."""
        return islice(self._acks.values(), max(len(self._acks) - most, 0), None)


class Orders:
    """Direct orders that were carried out, without their tokens, by id."""

    def __init__(self, most: int = ORDERS_MAX) -> None:
        self._most = most
        self._orders: OrderedDict[str, pb.DirectOrder] = OrderedDict()

    def get(self, order_id: str) -> pb.DirectOrder | None:
        """An order; None when it is not known."""
        return self._orders.get(order_id)

    def remember(self, order: pb.DirectOrder) -> None:
        """Keep an order."""
        self._orders[order.order_id] = order
        while len(self._orders) > self._most:
            self._orders.popitem(last=False)

    def __iter__(self) -> Iterator[pb.DirectOrder]:
        return iter(self._orders.values())
