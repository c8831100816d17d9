"""Who a miner is: names of its model in each dialect, chips, MAC, serial numbers. All follow from model and address alone."""

import hashlib
from ipaddress import IPv4Address
from typing import Final, NamedTuple


class Hardware(NamedTuple):
    """A model as its firmware names it.

    Chip counts are those that owners' software expects of the type; frequency and voltage are of full power (settings of ours).
    """

    type: str
    chips_per_board: int
    frequency_mhz: int = 490
    voltage_v: float = 13.6


_HARDWARE: Final = {
    "S19j Pro": Hardware("Antminer S19j Pro", 126, 545, 13.4),
    "S19 XP": Hardware("Antminer S19 XP", 110, 500, 13.8),
    "S21": Hardware("Antminer S21", 108, 490, 13.6),
    "S21+": Hardware("Antminer S21+", 55, 520, 13.4),
    "S21 Pro": Hardware("Antminer S21 Pro", 65, 530, 13.2),
    "S21 XP": Hardware("Antminer S21 XP", 91, 540, 13.0),
    "M60S": Hardware("M60S_VK30", 245, 720, 12.1),
    "M66S": Hardware("M66S_VK40", 240, 700, 12.1),
}


def hardware_of(model: str, *, is_whatsminer: bool) -> Hardware:
    """What the firmware calls a model; one that is not in the table keeps its own name.

    >>> hardware_of("S21", is_whatsminer=False).type, hardware_of("X9", is_whatsminer=False).type
    ('Antminer S21', 'Antminer X9')
    """
    other = f"{model}_V10" if is_whatsminer else f"Antminer {model}"
    return _HARDWARE.get(model, Hardware(other, 100))


class Identity(NamedTuple):
    """Of one miner, by its address."""

    mac: str
    serial: str
    hostname: str
    salt: str

    def board_serial(self, board: int) -> str:
        """Serial number of a hash board, counted from 0."""
        return f"{self.serial}B{board}"


def identity_of(address: str, maker: str) -> Identity:
    """The identity at an address; MACs are locally administered and hold the address, so that none is there twice.

    >>> identity_of("127.16.0.1", "antminer")[:3]
    ('02:48:7F:10:00:01', 'HCP021317550090C', 'antminer-16-0-1')
    """
    packed = IPv4Address(address).packed
    digest = hashlib.blake2b(address.encode(), digest_size=6).hexdigest()
    mac = ":".join(f"{octet:02X}" for octet in (0x02, 0x48, *packed))
    hostname = f"{maker}-" + "-".join(str(octet) for octet in packed[1:])
    serial = f"HCP{int.from_bytes(packed, 'big'):011d}{digest[:2].upper()}"
    return Identity(mac, serial, hostname, digest[:8])
