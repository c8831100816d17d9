"""Addresses of simulated devices: which 127.x.y.z stands for which slot of which site. Pure arithmetic; no sockets here.

Site number k, in the order of `world.yaml` from 0, owns 127.(16+4k).0.0 onward: four second octets, each with 254 × 254
addresses.
The last octet is never 0 or 255, so that no address looks like a network or a broadcast.
"""

from ipaddress import AddressValueError, IPv4Address
from typing import Final, NamedTuple

FIRST_OCTET: Final = 16
OCTETS_PER_SITE: Final = 4
_HOSTS: Final = 254
_PER_OCTET: Final = _HOSTS * _HOSTS
MAX_SLOTS: Final = OCTETS_PER_SITE * _PER_OCTET
MAX_SITES: Final = (256 - FIRST_OCTET) // OCTETS_PER_SITE


class Place(NamedTuple):
    """A device: the number of its site in `world.yaml`, and its slot."""

    site_index: int
    slot: int


def address_of(site_index: int, slot: int) -> str:
    """The address of a device.

    >>> address_of(0, 0), address_of(0, 254), address_of(1, 70_000)
    ('127.16.0.1', '127.16.1.1', '127.21.21.151')

    Raises:
        ValueError: there is no address for that site or slot.
    """
    if not 0 <= site_index < MAX_SITES or not 0 <= slot < MAX_SLOTS:
        message = f"site {site_index} slot {slot} has no address: {MAX_SITES} sites of {MAX_SLOTS} slots fit into 127/8"
        raise ValueError(message)
    octet, rest = divmod(slot, _PER_OCTET)
    return f"127.{FIRST_OCTET + OCTETS_PER_SITE * site_index + octet}.{rest // _HOSTS}.{rest % _HOSTS + 1}"


def locate(address: str) -> Place | None:
    """The device at an address; None where no device can be.

    >>> locate("127.21.21.151"), locate("127.0.0.1")
    (Place(site_index=1, slot=70000), None)
    """
    try:
        first, second, third, last = IPv4Address(address).packed
    except AddressValueError:
        return None
    if first != 127 or second < FIRST_OCTET or third >= _HOSTS or not 1 <= last <= _HOSTS:
        return None
    site_index, octet = divmod(second - FIRST_OCTET, OCTETS_PER_SITE)
    return Place(site_index, octet * _PER_OCTET + third * _HOSTS + last - 1)


def site_at(address: str) -> int | None:
    """The number of the site whose addresses one is among, devices' or its plant's; None where no site can be.

    >>> site_at("127.21.21.151"), site_at("127.16.255.1"), site_at("127.0.0.1"), site_at("192.0.2.1")
    (1, 0, None, None)
    """
    try:
        first, second, _, _ = IPv4Address(address).packed
    except AddressValueError:
        return None
    return (second - FIRST_OCTET) // OCTETS_PER_SITE if first == 127 and second >= FIRST_OCTET else None


def is_loopback(address: str) -> bool:
    """Whether an address is in 127/8.

    >>> is_loopback("127.200.0.1"), is_loopback("192.0.2.1")
    (True, False)
    """
    return address.startswith("127.")
