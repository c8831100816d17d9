"""A Stratum V2 miner that really hashes, written from the specification alone: it shares no code with the pool.

Handshake of chapter 4, framing of chapter 3, mining messages of chapter 5; the curve is `secp256k1` beside this.
"""

import asyncio
import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.support import secp256k1 as curve
from tests.support.stratum_v1 import dsha

DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
SETUP, SETUP_OK, SETUP_ERROR = 0x00, 0x01, 0x02
OPEN, OPEN_OK, OPEN_ERROR, OPEN_EXTENDED, OPEN_EXTENDED_OK = 0x10, 0x11, 0x12, 0x13, 0x14
JOB, UPDATE, UPDATE_ERROR, CLOSE = 0x15, 0x16, 0x17, 0x18
SUBMIT, SUBMIT_EXTENDED, SHARE_OK, SHARE_ERROR = 0x1A, 0x1B, 0x1C, 0x1D
EXTENDED_JOB, PREV_HASH, TARGET = 0x1F, 0x20, 0x21
MAX_TARGET = 2**256 - 1


def text(value):
    return bytes([len(value)]) + value.encode()


def authority_of(url):
    """The x-only key in a pool's URL."""
    number = 0
    for digit in url.rsplit("/", 1)[1]:
        number = number * 58 + DIGITS.index(digit)
    whole = number.to_bytes(38, "big")
    assert dsha(whole[:-4])[:4] == whole[-4:]
    assert whole[:2] == b"\x01\x00"
    return whole[2:-4]


class Fields:
    """Takes fields off a payload, one after the other."""

    def __init__(self, payload):
        self.rest = payload

    def take(self, size):
        found, self.rest = self.rest[:size], self.rest[size:]
        assert len(found) == size
        return found

    def u16(self):
        return struct.unpack("<H", self.take(2))[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def u256(self):
        return int.from_bytes(self.take(32), "little")

    def short(self):
        return self.take(self.take(1)[0])

    def option_u32(self):
        return self.u32() if self.take(1) == b"\x01" else None


class Sealer:
    def __init__(self, key):
        self.cipher, self.count = ChaCha20Poly1305(key), 0

    def nonce(self):
        self.count += 1
        return bytes(4) + (self.count - 1).to_bytes(8, "little")

    def seal(self, data, with_=b""):
        return self.cipher.encrypt(self.nonce(), data, with_)

    def open(self, data, with_=b""):
        return self.cipher.decrypt(self.nonce(), data, with_)


def hkdf(ck, material):
    temporary = hmac.new(ck, material, hashlib.sha256).digest()
    first = hmac.new(temporary, b"\x01", hashlib.sha256).digest()
    return first, hmac.new(temporary, first + b"\x02", hashlib.sha256).digest()


class Channel:
    """A standard channel: what was said of it last."""

    def __init__(self, number, target, extranonce):
        self.number, self.target, self.extranonce = number, target, extranonce
        self.jobs, self.job, self.previous, self.bits, self.time = {}, None, None, None, None


class Miner:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.channels, self.sequence = {}, 0

    @classmethod
    async def connect(cls, port, authority=None, now_s=0):
        self = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            await self.shake_hands(authority, now_s)
        except BaseException:
            await self.close()
            raise
        return self

    async def shake_hands(self, authority, now_s):
        h = hashlib.sha256(b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256").digest()
        ck, h = h, hashlib.sha256(h).digest()

        def mixed(data):
            return hashlib.sha256(h + data).digest()

        secret, own = curve.key_pair()
        h = mixed(own)
        h = mixed(b"")
        self.writer.write(own)
        async with asyncio.timeout(120):
            act2 = await self.reader.readexactly(234)
        theirs, sealed_static, sealed_certificate = act2[:64], act2[64:144], act2[144:]
        h = mixed(theirs)
        ck, key = hkdf(ck, curve.shared(secret, theirs, own, theirs))
        static = Sealer(key).open(sealed_static, h)
        h = mixed(sealed_static)
        ck, key = hkdf(ck, curve.shared(secret, static, own, static))
        certificate = Sealer(key).open(sealed_certificate, h)
        to_pool, from_pool = hkdf(ck, b"")
        self.outward, self.inward = Sealer(to_pool), Sealer(from_pool)
        if authority is not None:
            version, begins, ends = struct.unpack("<HII", certificate[:10])
            signed = certificate[:10] + curve.decoded_x(static).to_bytes(32, "big")
            assert version == 0
            assert begins <= now_s <= ends
            assert curve.verifies(authority, hashlib.sha256(signed).digest(), certificate[10:])

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()

    def frame(self, kind, payload, extension=None, length=None):
        is_channel = 0x15 <= kind <= 0x24
        extension = (0x8000 if is_channel else 0) if extension is None else extension
        size = len(payload) if length is None else length
        head = struct.pack("<HB", extension, kind) + size.to_bytes(3, "little")
        return self.outward.seal(head) + (self.outward.seal(payload) if payload else b"")

    def send(self, kind, payload, **more):
        self.writer.write(self.frame(kind, payload, **more))

    async def read(self):
        """The next (kind, fields); jobs, targets and blocks are taken note of."""
        async with asyncio.timeout(120):
            head = self.inward.open(await self.reader.readexactly(22))
            extension, kind = struct.unpack("<HB", head[:3])
            size = int.from_bytes(head[3:], "little")
            payload = self.inward.open(await self.reader.readexactly(size + 16))
        assert extension == (0x8000 if 0x15 <= kind <= 0x24 else 0)
        self.note(kind, Fields(payload))
        return kind, Fields(payload)

    def note(self, kind, fields):
        if kind == JOB:
            channel, job, time, version = self.channels[fields.u32()], fields.u32(), fields.option_u32(), fields.u32()
            channel.jobs[job] = (version, fields.take(32))
            if time is not None:
                channel.job, channel.time = job, time
        if kind == PREV_HASH:
            channel = self.channels[fields.u32()]
            channel.job, channel.previous, channel.time = fields.u32(), fields.take(32), fields.u32()
            channel.bits = fields.take(4)
        if kind == TARGET:
            channel = self.channels[fields.u32()]
            channel.target = fields.u256()

    async def until(self, *kinds):
        while True:
            kind, fields = await self.read()
            if kind in kinds:
                return kind, fields

    async def set_up(self, flags=1, protocol=0, versions=(2, 2)):
        names = b"".join(text(one) for one in ("maker", "model", "1.0", "device-1"))
        head = struct.pack("<BHHI", protocol, *versions, flags)
        self.send(SETUP, head + text("127.0.0.1") + struct.pack("<H", 34254) + names)
        return await self.read()

    async def open(self, user="hcp.rig", hashes_per_s=0.0, max_target=MAX_TARGET):
        self.send(
            OPEN,
            struct.pack("<I", 7) + text(user) + struct.pack("<f", hashes_per_s) + max_target.to_bytes(32, "little"),
        )
        kind, fields = await self.until(OPEN_OK, OPEN_ERROR)
        assert fields.u32() == 7
        if kind == OPEN_ERROR:
            return fields.short().decode()
        channel = Channel(fields.u32(), fields.u256(), fields.short())
        self.channels[channel.number] = channel
        await self.until(PREV_HASH)
        return channel

    def header(self, channel, job, time, version, nonce):
        root = channel.jobs[job][1]
        return struct.pack("<I", version) + channel.previous + root + struct.pack("<I", time) + channel.bits + nonce

    def hash(self, channel, start=0, version_bits=0, below=True, target=None):
        """(job, nonce, time, version) of the next share."""
        job, time = channel.job, channel.time
        version = channel.jobs[job][0] | version_bits
        head = self.header(channel, job, time, version, b"")
        for nonce in range(start, start + 2**24):
            found = int.from_bytes(dsha(head + nonce.to_bytes(4, "little")), "little")
            if (found <= (target or channel.target)) is below:
                return job, nonce, time, version
        raise AssertionError("no share within 2^24 hashes")

    async def submit(self, channel, share):
        """(kind, fields behind the sequence number) of the answer."""
        self.sequence += 1
        number = channel if isinstance(channel, int) else channel.number
        self.send(SUBMIT, struct.pack("<6I", number, self.sequence, *share))
        kind, fields = await self.until(SHARE_OK, SHARE_ERROR)
        assert (fields.u32(), fields.u32()) == (number, self.sequence)
        return (kind, fields.u32(), fields.u64()) if kind == SHARE_OK else (kind, fields.short().decode())
