"""Modbus requests and replies without their header, pure: functions 1 to 6, 15, 16 and 43/14, and the standard's exceptions.

Source: MODBUS Application Protocol Specification V1.1b3, sections 6 and 7. Checked in this order: function, quantity,
address, execution.
"""

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Protocol

MAX_READ_WORDS, MAX_WRITE_WORDS, MAX_READ_COILS, MAX_WRITE_COILS = 125, 123, 2000, 1968
COIL_ON, COIL_OFF = 0xFF00, 0x0000
READ_DEVICE_IDENTIFICATION, SINGLE = 14, 4  # MEI type; the code for one object alone
LAST_OF_CATEGORY = {1: 0x02, 2: 0x06}  # basic, regular; extended: all
CONFORMITY = 0x82  # regular, by category or singly


class Code(IntEnum):
    """Exception codes."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_ADDRESS = 2
    ILLEGAL_VALUE = 3
    DEVICE_FAILURE = 4
    NO_SUCH_UNIT = 11  # gateway target device failed to respond


class ModbusError(Exception):
    """Answered with an exception code."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


class Unit(Protocol):
    """A device behind the server. Writes raise `ModbusError` where they are refused."""

    def blocks(self, at_s: float) -> Sequence[tuple[int, Sequence[int]]]:
        """Runs of registers, each with its first address, as they are at an instant."""
        ...

    def coils(self, at_s: float) -> Sequence[bool]:
        """Coils from 0 on; none where the unit has none."""
        ...

    def write_coil(self, address: int, is_on: bool, at_s: float) -> None:
        """Switch a coil."""
        ...

    def identification(self) -> Mapping[int, str]:
        """What it says of itself, by object id."""
        ...

    def write_register(self, address: int, value: int, at_s: float) -> None:
        """Write a register."""
        ...


def answer(pdu: bytes, unit: Unit | None, at_s: float) -> bytes:
    """The reply to one request; `unit` is None where nobody has the address."""
    function = pdu[0]
    try:
        if unit is None:
            raise ModbusError(Code.NO_SUCH_UNIT)
        if function in (3, 4):
            return _read_registers(pdu, unit, at_s)
        if function in (1, 2):
            return _read_coils(pdu, unit, at_s)
        if function == 0x2B:
            return _identify(pdu, unit)
        if function in (5, 6, 15, 16):
            return _write(pdu, unit, at_s)
        raise ModbusError(Code.ILLEGAL_FUNCTION)
    except ModbusError as error:
        return bytes([function | 0x80, error.code])


def _read_registers(pdu: bytes, unit: Unit, at_s: float) -> bytes:
    address, count = _two_words(pdu)
    if not 1 <= count <= MAX_READ_WORDS:
        raise ModbusError(Code.ILLEGAL_VALUE)
    for first, words in unit.blocks(at_s):
        if first <= address and address + count <= first + len(words):
            return struct.pack(f">BB{count}H", pdu[0], 2 * count, *words[address - first : address - first + count])
    raise ModbusError(Code.ILLEGAL_ADDRESS)


def _read_coils(pdu: bytes, unit: Unit, at_s: float) -> bytes:
    address, count = _two_words(pdu)
    if not 1 <= count <= MAX_READ_COILS:
        raise ModbusError(Code.ILLEGAL_VALUE)
    coils = unit.coils(at_s)
    if address + count > len(coils):
        raise ModbusError(Code.ILLEGAL_ADDRESS)
    packed = sum(1 << bit for bit, is_on in enumerate(coils[address : address + count]) if is_on)
    size = (count + 7) // 8
    return bytes([pdu[0], size]) + packed.to_bytes(size, "little")


def _write(pdu: bytes, unit: Unit, at_s: float) -> bytes:
    if pdu[0] == 16:
        return _write_registers(pdu, unit, at_s)
    if pdu[0] == 15:
        return _write_coils(pdu, unit, at_s)
    address, value = _two_words(pdu)
    if pdu[0] == 6:
        unit.write_register(address, value, at_s)
    elif value in (COIL_ON, COIL_OFF):
        unit.write_coil(address, value == COIL_ON, at_s)
    else:
        raise ModbusError(Code.ILLEGAL_VALUE)
    return pdu


def _write_registers(pdu: bytes, unit: Unit, at_s: float) -> bytes:
    """One register at a time can be written, since no two that can be stand side by side."""
    if len(pdu) < 6:
        raise ModbusError(Code.ILLEGAL_VALUE)
    address, count, size = struct.unpack_from(">HHB", pdu, 1)
    if not 1 <= count <= MAX_WRITE_WORDS or size != 2 * count or len(pdu) != 6 + size:
        raise ModbusError(Code.ILLEGAL_VALUE)
    if count != 1:
        raise ModbusError(Code.ILLEGAL_ADDRESS)
    unit.write_register(address, int.from_bytes(pdu[6:8], "big"), at_s)
    return pdu[:5]


def _write_coils(pdu: bytes, unit: Unit, at_s: float) -> bytes:
    """One after another, once it is clear that all of them are there."""
    if len(pdu) < 6:
        raise ModbusError(Code.ILLEGAL_VALUE)
    address, count, size = struct.unpack_from(">HHB", pdu, 1)
    if not 1 <= count <= MAX_WRITE_COILS or size != (count + 7) // 8 or len(pdu) != 6 + size:
        raise ModbusError(Code.ILLEGAL_VALUE)
    if address + count > len(unit.coils(at_s)):
        raise ModbusError(Code.ILLEGAL_ADDRESS)
    bits = int.from_bytes(pdu[6:], "little")
    for number in range(count):
        unit.write_coil(address + number, bool(bits >> number & 1), at_s)
    return pdu[:5]


def _identify(pdu: bytes, unit: Unit) -> bytes:
    """Function 43, MEI type 14: all objects of a category from one on, or a single one."""
    if len(pdu) < 2 or pdu[1] != READ_DEVICE_IDENTIFICATION:
        raise ModbusError(Code.ILLEGAL_FUNCTION)
    if len(pdu) != 4 or not 1 <= pdu[2] <= SINGLE:
        raise ModbusError(Code.ILLEGAL_VALUE)
    objects, last = unit.identification(), LAST_OF_CATEGORY.get(pdu[2], 0xFF)
    if pdu[2] == SINGLE and pdu[3] not in objects:
        raise ModbusError(Code.ILLEGAL_ADDRESS)
    first = pdu[3] if pdu[3] in objects and pdu[3] <= last else 0
    chosen = [first] if pdu[2] == SINGLE else [number for number in sorted(objects) if first <= number <= last]
    texts = b"".join(
        struct.pack(">BB", number, len(text)) + text for number in chosen if (text := objects[number].encode())
    )
    return struct.pack(">6B", *pdu[:3], CONFORMITY, 0, 0) + bytes([len(chosen)]) + texts


def _two_words(pdu: bytes) -> tuple[int, int]:
    if len(pdu) != 5:
        raise ModbusError(Code.ILLEGAL_VALUE)
    first, second = struct.unpack_from(">HH", pdu, 1)
    return int(first), int(second)
