"""secp256k1 in plain Python, after BIP 324 (ElligatorSwift, x-only ECDH) and BIP 340 (Schnorr): slow, and nobody else's code.

The pool has these from libsecp256k1; a client that shared them would share their mistakes.
"""

import hashlib
import secrets

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def inverse(a):
    return pow(a, -1, P)


def root(a):
    """The square root that a power gives; None where there is none."""
    found = pow(a, (P + 1) // 4, P)
    return found if found * found % P == a % P else None


ROOT_OF_MINUS_3 = root(-3 % P)


def is_x(x):
    return root((pow(x, 3, P) + 7) % P) is not None


def lift(x):
    """The point of even y."""
    y = root((pow(x, 3, P) + 7) % P)
    assert y is not None, "no such point"
    return x, y if y % 2 == 0 else P - y


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and a[1] != b[1]:
        return None
    slope = (3 * a[0] * a[0] * inverse(2 * a[1]) if a == b else (b[1] - a[1]) * inverse(b[0] - a[0])) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(number, point):
    found = None
    while number:
        if number & 1:
            found = add(found, point)
        point, number = add(point, point), number >> 1
    return found


def decoded_x(encoded):
    """XSwiftEC: the x that 64 bytes stand for."""
    u = int.from_bytes(encoded[:32], "big") % P or 1
    t = int.from_bytes(encoded[32:], "big") % P or 1
    cubic = (pow(u, 3, P) + 7) % P
    if (cubic + t * t) % P == 0:
        t = 2 * t % P
    x_ = (cubic - t * t) * inverse(2 * t) % P
    y_ = (x_ + t) * inverse(ROOT_OF_MINUS_3 * u) % P
    half = inverse(2)
    candidates = ((u + 4 * y_ * y_) % P, (-x_ * inverse(y_) - u) * half % P, (x_ * inverse(y_) - u) * half % P)
    return next(x for x in candidates if is_x(x))


def _t_of(x, u, case):
    """The inverse of XSwiftEC for one of eight cases; None where it has none."""
    cubic = (pow(u, 3, P) + 7) % P
    if case & 2 == 0:
        if is_x((-x - u) % P):
            return None
        v = x if case & 1 == 0 else (-x - u) % P
        s = -cubic * inverse((u * u + u * v + v * v) % P) % P
    else:
        s = (x - u) % P
        if s == 0:
            return None
        r = root(-s * (4 * cubic + 3 * s * u * u) % P)
        if r is None or (case & 1 and r == 0):
            return None
        v = (-u + (r if case & 1 == 0 else -r) * inverse(s)) * inverse(2) % P
    w = root(s)
    if w is None:
        return None
    c = ROOT_OF_MINUS_3
    along = (1 + c if case & 1 else 1 - c) * inverse(2)
    t = w * (u * along + v) % P
    return t if case & 5 in (1, 4) else (-t) % P


def encode_x(x):
    """One of the many encodings of an x."""
    while True:
        u, case = secrets.randbelow(P - 1) + 1, secrets.randbelow(8)
        t = _t_of(x, u, case)
        if t is not None:
            return u.to_bytes(32, "big") + t.to_bytes(32, "big")


def key_pair():
    """(secret, its public key's encoding)."""
    secret = secrets.randbelow(N - 1) + 1
    return secret, encode_x(times(secret, G)[0])


def tagged(tag, *parts):
    head = hashlib.sha256(tag).digest()
    return hashlib.sha256(head + head + b"".join(parts)).digest()


def shared(secret, theirs, initiator, responder):
    """BIP 324's `v2_ecdh`: the shared x, hashed with both encodings, the initiator's first."""
    x = times(secret, lift(decoded_x(theirs)))[0]
    return tagged(b"bip324_ellswift_xonly_ecdh", initiator, responder, x.to_bytes(32, "big"))


def verifies(public_x, message, signature):
    """BIP 340's verification."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if r >= P or s >= N:
        return False
    challenge = tagged(b"BIP0340/challenge", signature[:32], public_x, message)
    e = int.from_bytes(challenge, "big") % N
    point = add(times(s, G), times(N - e, lift(int.from_bytes(public_x, "big"))))
    return point is not None and point[1] % 2 == 0 and point[0] == r
