"""The handshake of Stratum V2, the pool's side, and the encrypted lines that it makes. Bytes in, bytes out.

Source: Stratum V2 specification, 04 Protocol Security (Noise NX with ElligatorSwift, ChaCha20-Poly1305, SHA-256; the
certificate); the Noise Protocol Framework, revision 34. Act 2 is 234 bytes: the 170 that the specification names are older.
"""

import hashlib
import hmac
import struct
from typing import Final

from coincurve import PrivateKey
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from simulators.pool.ellswift import ENCODED_BYTES, KeyPair, make_key, shared_secret, x_only

ACT1_BYTES: Final = ENCODED_BYTES
TAG_BYTES: Final = 16
VALID_BEFORE_S: Final = 3600
VALID_AFTER_S: Final = 30 * 86_400
_NAME: Final = b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256"
_KEY_PREFIX: Final = bytes([1, 0])
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class ForeignError(Exception):
    """Bytes that were not encrypted by who they should be from."""


class Cipher:
    """One direction: a key, and a nonce that counts."""

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._count = 0

    def encrypt(self, plain: bytes, associated: bytes = b"") -> bytes:
        """A sealed block."""
        return self._aead.encrypt(self._nonce(), plain, associated)

    def decrypt(self, sealed: bytes, associated: bytes = b"") -> bytes:
        """The content of a block.

        Raises:
            ForeignError: it was changed, or comes from somebody else.
        """
        try:
            return self._aead.decrypt(self._nonce(), sealed, associated)
        except InvalidTag:
            reason = "a block does not decrypt"
            raise ForeignError(reason) from None

    def _nonce(self) -> bytes:
        self._count += 1
        return struct.pack("<IQ", 0, self._count - 1)


class Authority:
    """Who signs for the pool: its key is what miners know the pool by."""

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)

    @property
    def public_key(self) -> bytes:
        """The x-only key, 32 bytes."""
        return self._key.public_key.format(compressed=True)[1:]

    @property
    def shown_key(self) -> str:
        """The key as it stands in a pool's URL."""
        return base58_check(_KEY_PREFIX + self.public_key)

    def certificate(self, static_key: bytes, now_s: float) -> bytes:
        """The 74 bytes that say that a static key (x-only) is the pool's, for some weeks."""
        head = struct.pack("<HII", 0, int(now_s) - VALID_BEFORE_S, int(now_s) + VALID_AFTER_S)
        return head + self._key.sign_schnorr(hashlib.sha256(head + static_key).digest())


class Handshake:
    """The pool's side of one handshake."""

    def __init__(self, authority: Authority, static: KeyPair, ephemeral: KeyPair | None = None) -> None:
        self._authority = authority
        self._static = static
        self._ephemeral = ephemeral or make_key()
        self._chaining = hashlib.sha256(_NAME).digest()
        self._hash = hashlib.sha256(self._chaining).digest()

    def answer(self, act1: bytes, now_s: float) -> tuple[bytes, Cipher, Cipher]:
        """Act 2, and the ciphers of what comes in and of what goes out."""
        self._mix_hash(act1)
        self._mix_hash(b"")
        own, static = self._ephemeral, self._static
        self._mix_hash(own.encoded)
        cipher = self._mix_key(shared_secret(act1, own.encoded, own, is_initiator=False))
        sealed_static = self._seal(cipher, static.encoded)
        cipher = self._mix_key(shared_secret(act1, static.encoded, static, is_initiator=False))
        certificate = self._authority.certificate(x_only(static.encoded), now_s)
        act2 = own.encoded + sealed_static + self._seal(cipher, certificate)
        inward, outward = _derived(self._chaining, b"")
        return act2, Cipher(inward), Cipher(outward)

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_key(self, secret: bytes) -> Cipher:
        self._chaining, key = _derived(self._chaining, secret)
        return Cipher(key)

    def _seal(self, cipher: Cipher, plain: bytes) -> bytes:
        sealed = cipher.encrypt(plain, self._hash)
        self._mix_hash(sealed)
        return sealed


def base58_check(data: bytes) -> str:
    """Base58 with a checksum.

    >>> base58_check(bytes(21))
    '1111111111111111111114oLvT2'
    """
    whole = data + hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    number, text = int.from_bytes(whole, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(whole) - len(whole.lstrip(b"\0"))) + text


def _derived(chaining: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Noise's HKDF with two outputs."""
    temporary = hmac.digest(chaining, secret, "sha256")
    first = hmac.digest(temporary, b"\x01", "sha256")
    return first, hmac.digest(temporary, first + b"\x02", "sha256")
