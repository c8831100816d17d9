"""Modbus requests and replies without their header, pure: functions 1, 3, 4, 5, 6 and 16, and the standard's exceptions.

Source: MODBUS Application Protocol Specification V1.1b3, sections 6 and 7. Checked in this order: function, quantity,
address, execution.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

MAX_READ_WORDS, MAX_WRITE_WORDS, MAX_READ_COILS = 125, 123, 2000
COIL_ON, COIL_OFF = 0xFF00, 0x0000


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
        if function == 1:
            return _read_coils(pdu, unit, at_s)
        if function in (5, 6, 16):
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


def _two_words(pdu: bytes) -> tuple[int, int]:
    if len(pdu) != 5:
        raise ModbusError(Code.ILLEGAL_VALUE)
    first, second = struct.unpack_from(">HH", pdu, 1)
    return int(first), int(second)
