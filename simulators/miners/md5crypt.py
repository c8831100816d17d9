"""md5crypt, the `$1$` scheme that WhatsMiner makes its keys with. Source: FreeBSD's crypt, as Poul-Henning Kamp described it."""

import hashlib
from typing import Final

_ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROUNDS: Final = 1000
_TRIPLES: Final = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))


def md5crypt(password: str, salt: str) -> str:
    """The last field of `$1$salt$…`, 22 characters.

    >>> md5crypt("admin", "saltsalt")
    'Y3BMhxQHmg7scgLILa56u1'
    """
    word, grain = password.encode(), salt[:8].encode()
    digest = _first(word, grain)
    for number in range(_ROUNDS):
        parts = [word if number & 1 else digest]
        parts += [grain] if number % 3 else []
        parts += [word] if number % 7 else []
        parts += [digest if number & 1 else word]
        digest = _md5(b"".join(parts))
    triples = [_text(digest[high], digest[middle], digest[low], 4) for high, middle, low in _TRIPLES]
    return "".join(triples) + _text(0, 0, digest[11], 2)


def _first(word: bytes, grain: bytes) -> bytes:
    inner = _md5(word + grain + word)
    whole = word + b"$1$" + grain + (inner * (len(word) // 16 + 1))[: len(word)]
    length = len(word)
    while length:
        whole += b"\0" if length & 1 else word[:1]
        length >>= 1
    return _md5(whole)


def _text(high: int, middle: int, low: int, characters: int) -> str:
    value = high << 16 | middle << 8 | low
    return "".join(_ALPHABET[value >> 6 * place & 0x3F] for place in range(characters))


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
