"""Whose request it is behind proxies: `Forwarded` and `X-Forwarded-For` are believed of named networks alone.

The last address that is none of theirs counts: what stands before it, anybody may have written. Where both headers are there and
tell different addresses the proxy has passed one on unread, and neither is believed.
"""

import ipaddress
import re
from collections.abc import Sequence

from starlette.types import Scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_FOR = re.compile(r"""(?:^|;)\s*for\s*=\s*(?:"([^"]*)"|([^;"\s]*))\s*(?=;|$)""", re.IGNORECASE)
_WITH_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::\d{1,5})?")


def networks(text: str) -> list[Network]:
    """The networks of a comma-separated list.

    Raises:
        ValueError: one is none.

    >>> networks("10.0.0.0/8, ::1")
    [IPv4Network('10.0.0.0/8'), IPv6Network('::1/128')]
    """
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


class Proxies:
    """The proxies that are believed; none by default."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)

    def client_of(self, scope: Scope) -> tuple[str, int] | None:
        """The address and port of whoever asks; the connection's own where no proxy tells another."""
        peer: tuple[str, int] | None = scope.get("client")
        if peer is None or not self._trusted or not self._is_trusted(_address(peer[0])):
            return peer
        told = {
            address
            for name, read in ((b"x-forwarded-for", _plain), (b"forwarded", _forwarded))
            if (address := self._last_stranger(read(_joined(scope, name)))) is not None
        }
        return (str(told.pop()), 0) if len(told) == 1 else peer

    def _last_stranger(self, hops: Sequence[Address | None]) -> Address | None:
        for hop in reversed(hops):
            if hop is None or not self._is_trusted(hop):
                return hop
        return None

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def _joined(scope: Scope, header: bytes) -> str:
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == header)


def _plain(value: str) -> list[Address | None]:
    return [_address(part.strip()) for part in value.split(",")] if value else []


def _forwarded(value: str) -> list[Address | None]:
    found = (_FOR.search(element.strip()) for element in value.split(","))
    return [_address(one[1] or one[2] or "") if one else None for one in found] if value else []


def _address(text: str) -> Address | None:
    """An address, with or without its port; None: it is none."""
    found = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((found["v6"] or found["v4"]) if found else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
