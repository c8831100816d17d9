"""A Stratum V1 miner that really hashes, written from the protocol's description alone: it shares no code with the pool."""

import asyncio
import hashlib
import itertools
import json

DIFF1 = 0x00000000FFFF0000000000000000000000000000000000000000000000000000


def dsha(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


class Work:
    """What `mining.notify` tells, and the header that comes of it."""

    def __init__(self, params, extranonce1):
        (
            self.job,
            self.previous,
            self.first,
            self.second,
            self.branches,
            self.version,
            self.bits,
            self.time,
            self.clean,
        ) = params
        self.extranonce1 = extranonce1

    def header(self, extranonce2, ntime, nonce, version_bits=None, mask=0):
        coinbase = bytes.fromhex(self.first + self.extranonce1 + extranonce2 + self.second)
        root = dsha(coinbase)
        for branch in self.branches:
            root = dsha(root + bytes.fromhex(branch))
        words = [self.previous[i : i + 8] for i in range(0, 64, 8)]
        previous = b"".join(bytes.fromhex(word)[::-1] for word in words)
        version = int(self.version, 16)
        if version_bits is not None:
            version = (version & ~mask) | (int(version_bits, 16) & mask)
        return (
            version.to_bytes(4, "little")
            + previous
            + root
            + bytes.fromhex(ntime)[::-1]
            + bytes.fromhex(self.bits)[::-1]
            + bytes.fromhex(nonce)[::-1]
        )


class Miner:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.ids = itertools.count(1)
        self.difficulty, self.mask = 1.0, 0
        self.work, self.extranonce1, self.extranonce2_size = None, "", 0
        self.works = []

    @classmethod
    async def connect(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()

    def send(self, method, *params, request=None):
        number = next(self.ids) if request is None else request
        self.writer.write(json.dumps({"id": number, "method": method, "params": list(params)}).encode() + b"\n")
        return number

    async def read(self):
        """The next line; what a pool pushes is taken note of."""
        async with asyncio.timeout(120):
            line = await self.reader.readline()
        if not line:
            raise EOFError
        said = json.loads(line)
        if said.get("method") == "mining.set_difficulty":
            self.difficulty = said["params"][0]
        if said.get("method") == "mining.notify":
            self.work = Work(said["params"], self.extranonce1)
            self.works.append(self.work)
        return said

    async def ask(self, method, *params):
        """The reply to a request."""
        number = self.send(method, *params)
        while True:
            said = await self.read()
            if said.get("id") == number and "method" not in said:
                return said

    async def until_work(self):
        while self.work is None:
            await self.read()

    async def next_work(self):
        self.work = None
        await self.until_work()
        return self.work

    async def log_on(self, worker="hcp.rig", password="x", rolls=False):
        if rolls:
            said = await self.ask("mining.configure", ["version-rolling"], {"version-rolling.mask": "1fffe000"})
            self.mask = int(said["result"]["version-rolling.mask"], 16)
        _, self.extranonce1, self.extranonce2_size = (await self.ask("mining.subscribe", "test/1"))["result"]
        assert (await self.ask("mining.authorize", worker, password))["result"] is True
        await self.until_work()

    def hash(self, work=None, difficulty=None, version_bits=None, start=0, below=True):
        """The first share's (extranonce2, ntime, nonce) at a difficulty; `below=False`: the first that is not good enough."""
        work, difficulty = work or self.work, difficulty or self.difficulty
        target = int(DIFF1 / difficulty)
        extranonce2 = "00" * self.extranonce2_size
        head = work.header(extranonce2, work.time, "00000000", version_bits, self.mask)[:76]
        for nonce in range(start, start + 2**24):
            found = dsha(head + nonce.to_bytes(4, "little"))
            if (int.from_bytes(found, "little") <= target) is below:
                return extranonce2, work.time, f"{nonce:08x}"
        raise AssertionError("no share within 2^24 hashes")

    async def submit(self, share, worker="hcp.rig", work=None, version_bits=None):
        rolled = [] if version_bits is None else [version_bits]
        return await self.ask("mining.submit", worker, (work or self.work).job, *share, *rolled)
