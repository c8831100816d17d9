"""Keys of the V2 handshake on secp256k1, over libsecp256k1: ElligatorSwift encodings and their shared secrets.

Source: BIP 324 (ElligatorSwift, `bip324_ellswift_xonly_ecdh`), BIP 340 (x-only keys, signatures).
"""

import secrets
from typing import NamedTuple

from coincurve import PrivateKey, PublicKey
from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]
from coincurve.context import GLOBAL_CONTEXT

ENCODED_BYTES = 64


class KeyPair(NamedTuple):
    """A secret and one of its many 64-byte encodings."""

    secret: bytes
    encoded: bytes


def make_key(secret: bytes | None = None) -> KeyPair:
    """A key, a fresh one unless its secret is given."""
    secret = PrivateKey(secret).secret
    out = ffi.new("unsigned char[64]")
    if not lib.secp256k1_ellswift_create(GLOBAL_CONTEXT.ctx, out, secret, secrets.token_bytes(32)):
        message = "libsecp256k1 made no ElligatorSwift encoding"
        raise ValueError(message)
    return KeyPair(secret, bytes(ffi.buffer(out, ENCODED_BYTES)))


def shared_secret(initiator: bytes, responder: bytes, own: KeyPair, *, is_initiator: bool) -> bytes:
    """The 32 bytes that both sides of an exchange come to; any 64 bytes are somebody's encoding."""
    out = ffi.new("unsigned char[32]")
    party = 0 if is_initiator else 1
    hasher = lib.secp256k1_ellswift_xdh_hash_function_bip324
    context = GLOBAL_CONTEXT.ctx
    if not lib.secp256k1_ellswift_xdh(context, out, initiator, responder, own.secret, party, hasher, ffi.NULL):
        message = "libsecp256k1 made no shared secret"
        raise ValueError(message)
    return bytes(ffi.buffer(out, 32))


def x_only(encoded: bytes) -> bytes:
    """The 32-byte x-only public key that an encoding stands for."""
    point = ffi.new("secp256k1_pubkey *")
    lib.secp256k1_ellswift_decode(GLOBAL_CONTEXT.ctx, point, encoded)
    return PublicKey(point).format(compressed=True)[1:]
