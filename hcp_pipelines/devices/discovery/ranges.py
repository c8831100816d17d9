"""Ranges of IPv4 addresses, as people write them. Pure.

`10.1.0.1`, `10.1.0.1-10.1.3.254`, `10.1.0.1-40` or `10.1.0.0/22`. In ranges and networks addresses that end in .0 and .255
are left out, as nobody gives them to a miner.
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

ADDRESSES_MAX = 1_000_000


def expand(texts: Iterable[str]) -> list[str]:
    """Every address of some ranges, in their order.

    >>> expand(["10.0.0.254-10.0.1.1", "10.9.9.9"])
    ['10.0.0.254', '10.0.1.1', '10.9.9.9']

    Raises:
        ValueError: a text that is no range, one that is backwards, or more than a million addresses.
    """
    found: list[str] = []
    for text in texts:
        first, last = _bounds(text)
        if last - first > ADDRESSES_MAX:
            raise ValueError(f"{text}: {last - first + 1} addresses; the limit is {ADDRESSES_MAX}")
        found += [text.strip()] if first == last else _within(first, last)
        if len(found) > ADDRESSES_MAX:
            raise ValueError(f"{text}: more than {ADDRESSES_MAX} addresses in all")
    return found


def compress(addresses: Sequence[str]) -> list[str]:
    """Ranges that expand to these addresses, in this order.

    >>> compress(["10.0.0.253", "10.0.0.254", "10.0.1.1", "10.0.0.9"])
    ['10.0.0.253-10.0.1.1', '10.0.0.9']
    """
    ranges: list[list[str]] = []
    for address in addresses:
        if ranges and _is_ordinary(address) and address == _after(ranges[-1][-1]):
            ranges[-1] = [ranges[-1][0], address]
        else:
            ranges.append([address])
    return ["-".join(one) for one in ranges]


def _bounds(text: str) -> tuple[int, int]:
    try:
        if "/" in text:
            network = IPv4Network(text.strip(), strict=False)
            return int(network.network_address), int(network.broadcast_address)
        low, dash, high = text.strip().partition("-")
        first = IPv4Address(low.strip())
        if high.strip().isdigit():
            high = f"{low.strip().rpartition('.')[0]}.{high.strip()}"
        last = IPv4Address(high.strip()) if dash else first
    except (AddressValueError, NetmaskValueError, ValueError):
        raise ValueError(
            f"{text!r} is no range of addresses: 10.1.0.1-10.1.3.254, 10.1.0.1-40 or 10.1.0.0/22"
        ) from None
    if last < first:
        raise ValueError(f"{text!r} runs backwards")
    return int(first), int(last)


def _within(first: int, last: int) -> Iterator[str]:
    for number in range(first, last + 1):
        if number & 0xFF not in (0, 255):
            yield str(IPv4Address(number))


def _after(address: str) -> str:
    """The next address that a range holds."""
    number = int(IPv4Address(address)) + 1
    return str(IPv4Address(number if number & 0xFF not in (0, 255) else number + 2))


def _is_ordinary(address: str) -> bool:
    return int(IPv4Address(address)) & 0xFF not in (0, 255)
