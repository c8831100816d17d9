"""What is hashed: coinbase, merkle root, header, and how difficult a header's hash is. Pure; nothing of a protocol here.

Source: Bitcoin developer reference (block headers, merkle trees, compact targets); BIP 34 (the height in the coinbase).
Hashes and headers are bytes as they are hashed; numbers in them are little-endian.
"""

import hashlib
import struct
from typing import Final, NamedTuple

EXTRANONCE_BYTES: Final = 16
DIFFICULTY_1_TARGET: Final = 0xFFFF << 208
HASHES_PER_DIFFICULTY: Final = 2.0**32
VERSION: Final = 0x2000_0000
_HIGHEST_TARGET: Final = 2**256 - 1
_TAG: Final = b"/hcp pool/"
_UNSPENDABLE: Final = b"\x6a"  # OP_RETURN: no block of this pool ever pays anybody


class Template(NamedTuple):
    """A block to be found: everything but extranonces, time and nonce."""

    height: int
    version: int
    previous_hash: bytes
    bits: int  # the network's target, compact
    time_s: int
    coinbase_head: bytes  # up to the extranonces
    coinbase_tail: bytes
    branches: tuple[bytes, ...]  # hashes that the coinbase's is joined with, one after the other


class Header(NamedTuple):
    """The 80 bytes whose hash counts."""

    version: int
    previous_hash: bytes
    merkle_root: bytes
    time_s: int
    bits: int
    nonce: int

    def hash(self) -> bytes:
        """Its double SHA-256."""
        return sha256d(struct.pack("<I32s32sIII", *self))


def sha256d(data: bytes) -> bytes:
    """SHA-256 of SHA-256."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def template_of(height: int, previous_hash: bytes, bits: int, time_s: int, reward_sat: int, seed: int) -> Template:
    """The block that follows another one; its other transactions are made up, a few branches that seed and time decide."""
    height_push = _pushed(height.to_bytes((height.bit_length() + 8) // 8, "little"))
    script_bytes = len(height_push) + EXTRANONCE_BYTES + len(_TAG)
    head = struct.pack("<IB32sIB", 1, 1, bytes(32), 0xFFFF_FFFF, script_bytes) + height_push
    output = struct.pack("<QB", reward_sat, len(_UNSPENDABLE)) + _UNSPENDABLE
    tail = _TAG + struct.pack("<IB", 0xFFFF_FFFF, 1) + output + struct.pack("<I", 0)
    branches = tuple(sha256d(f"pool/{seed}/{height}/{time_s}/{n}".encode()) for n in range(4))
    return Template(height, VERSION, previous_hash, bits, time_s, head, tail, branches)


def merkle_root(template: Template, extranonce: bytes) -> bytes:
    """The root above a coinbase with both its extranonces."""
    root = sha256d(template.coinbase_head + extranonce + template.coinbase_tail)
    for branch in template.branches:
        root = sha256d(root + branch)
    return root


def target_of(difficulty: float) -> int:
    """The highest hash that a share of a difficulty may have.

    >>> hex(target_of(1.0))[:8], target_of(1e-12) == 2**256 - 1
    ('0xffff00', True)
    """
    numerator, denominator = difficulty.as_integer_ratio()
    return min(_HIGHEST_TARGET, DIFFICULTY_1_TARGET * denominator // numerator)


def difficulty_of_target(target: int) -> float:
    """The difficulty of a target.

    >>> difficulty_of_target(target_of(0.25))
    0.25
    """
    return DIFFICULTY_1_TARGET / max(target, 1)


def meets(header_hash: bytes, target: int) -> bool:
    """Whether a hash is at or below a target."""
    return int.from_bytes(header_hash, "little") <= target


def bits_of(difficulty: float) -> int:
    """The compact form of a difficulty's target.

    >>> hex(bits_of(1.0)), hex(bits_of(16307.420938523983))
    ('0x1d00ffff', '0x1b0404cb')
    """
    target = target_of(difficulty)
    size = (target.bit_length() + 7) // 8
    mantissa = target >> 8 * (size - 3)
    if mantissa & 0x80_0000:
        size, mantissa = size + 1, mantissa >> 8
    return size << 24 | mantissa


def _pushed(data: bytes) -> bytes:
    return bytes([len(data)]) + data
