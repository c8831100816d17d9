"""Our side of the bulk channel against a site that answers by script, also wrongly."""

import asyncio
import contextlib
import struct
import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest
from pyroaring import BitMap

from hcp_pipelines.devices.bulk import codec
from hcp_pipelines.devices.bulk.device import BulkSite
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError

DEVICES = 4
WELCOME = struct.pack("<HId", 1, DEVICES, 60.0)


def frame(kind, request, payload=b""):
    return struct.pack("<IBI", 5 + len(payload), kind, request) + payload


def reading(*watts):
    return struct.pack("<Bd", codec.POWER, 5.0) + np.array(watts, dtype="<f4").tobytes()


class Script:
    """A site: `answer(kind, request, payload)` gives the bytes to send back; None closes."""

    def __init__(self, answer) -> None:
        self._answer = answer
        self.folder = tempfile.TemporaryDirectory(prefix="b", dir="/tmp")
        self.address = f"unix:{Path(self.folder.name) / 's'}"

    async def __aenter__(self):
        self._server = await asyncio.start_unix_server(self._serve, self.address.removeprefix("unix:"))
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.folder.cleanup()

    async def _serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = struct.unpack("<I", await reader.readexactly(4))
                body = await reader.readexactly(length)
                kind, request = struct.unpack_from("<BI", body)
                data = frame(codec.WELCOME, request, WELCOME) if kind == codec.HELLO else b""
                if kind not in (codec.HELLO, codec.SUBSCRIBE):
                    data = self._answer(kind, request, body[5:])
                if data is None:
                    break
                writer.write(data)
        writer.close()


@contextlib.asynccontextmanager
async def connected(answer, seen=None):
    async with Script(answer) as script:
        site = BulkSite(script.address, "one", (seen if seen is not None else []).append)
        welcome = await site.connect(100)
        assert (welcome.devices, welcome.speed) == (DEVICES, 60.0)
        yield site
        await site.close()


async def test_nobody_there_is_unreachable():
    with pytest.raises(DeviceUnreachableError, match="no site at"):
        await BulkSite("unix:/tmp/nobody-is-here", "one", print).connect(100)


async def test_values_come_back_by_request_and_a_pushed_frame_goes_to_the_callback():
    seen = []
    states = struct.pack("<Bd", codec.COMMANDED, 5.0) + bytes([0, 3, 3, 0])
    pushed = frame(codec.READING, 0, reading(1, 2, 3, 4))
    async with connected(lambda kind, request, _: pushed + frame(codec.READING, request, states), seen) as site:
        assert (await site.read_states()).tolist() == [0, 3, 3, 0]
    assert seen[0].values.tolist() == [1, 2, 3, 4]


async def test_what_devices_say_of_themselves_goes_with_the_power_that_comes_next():
    seen, asked = [], []
    told = {codec.HASHRATE: [200, np.nan, 186, 0], codec.TEMPERATURE: [61, 55, 60]}  # one temperature is missing

    def answer(kind, request, payload):
        pushed = frame(codec.READING, 0, reading(1, 2, 3, 4))
        if kind == codec.METER:
            return pushed + frame(codec.METERED, request, struct.pack("<ddd", 1, 2, 3))
        asked.append(payload[0])
        values = np.array(told[payload[0]], dtype="<f4").tobytes()
        return frame(codec.READING, request, struct.pack("<Bd", payload[0], 5.0) + values)

    async with connected(answer, seen) as site:
        await site.meter()
        async with asyncio.timeout(120):
            while codec.HASHRATE not in site._told:
                await asyncio.sleep(0.01)
        await site.meter()
    assert asked == [codec.HASHRATE, codec.TEMPERATURE], "every other second, not with each push"
    assert (seen[0].hashrate_th_per_s, seen[1].temperature_celsius) == (None, None)
    assert seen[1].hashrate_th_per_s.tolist() == pytest.approx([200, np.nan, 186, 0], nan_ok=True)


async def test_a_site_that_takes_nothing_more_still_tells_its_power(monkeypatch):
    monkeypatch.setattr("hcp_pipelines.devices.bulk.device.TOLD_EACH_S", 0.0)
    seen = []
    pushed = frame(codec.READING, 0, reading(1, 2, 3, 4))
    states = struct.pack("<Bd", codec.COMMANDED, 5.0) + bytes(4)
    async with connected(lambda kind, request, _: pushed + frame(codec.READING, request, states), seen) as site:
        send = site._transport.send

        def refuse(kind, payload):
            if kind == codec.READ and payload[0] in (codec.HASHRATE, codec.TEMPERATURE):
                raise DeviceUnreachableError("has not taken what was sent before")
            return send(kind, payload)

        monkeypatch.setattr(site._transport, "send", refuse)
        for _ in range(2):
            await site.read_states()
        assert site.is_connected
    assert len(seen) == 2


async def test_a_set_carries_ref_state_and_slots_and_tells_who_refused():
    got = []

    def answer(kind, request, payload):
        got.append(payload)
        parts = [BitMap([0, 1]).serialize(), BitMap([3]).serialize()]
        return frame(codec.SET_DONE, request, b"".join(struct.pack("<I", len(p)) + p for p in parts))

    ref = uuid.uuid4()
    async with connected(answer) as site:
        accepted, refused = await site.finish_state(site.send_state(ref, 2, 3, BitMap([0, 1, 3]).serialize()))
    assert (accepted.tolist(), refused.tolist()) == ([0, 1], [3])
    assert got[0][:19] == ref.bytes + struct.pack("<HB", 2, 3)
    assert list(BitMap.deserialize(got[0][19:])) == [0, 1, 3]


@pytest.mark.parametrize(
    ("kind", "payload", "message"),
    [
        (codec.ERROR, struct.pack("<H", 1) + b"no such thing", "error 1: no such thing"),
        (codec.METERED, struct.pack("<ddd", 0, 0, 0), "frame type 0x84, not 0x83"),
        (codec.READING, b"\x01", "READING of 1 bytes"),
        (codec.READING, struct.pack("<Bd", codec.COMMANDED, 5.0) + b"\x00", "1 values of kind 1"),
    ],
)
async def test_a_wrong_answer_is_reported(kind, payload, message):
    async with connected(lambda _, request, __: frame(kind, request, payload)) as site:
        with pytest.raises(DeviceReplyError, match=message):
            await site.read_states()


@pytest.mark.parametrize(
    "payload",
    [b"", struct.pack("<I", 9) + b"short", struct.pack("<I", 0) * 2 + b"more", struct.pack("<I", 4) + b"\xff" * 4],
)
async def test_a_set_done_that_does_not_decode_is_reported(payload):
    async with connected(lambda _, request, __: frame(codec.SET_DONE, request, payload)) as site:
        with pytest.raises(DeviceReplyError, match="SET_DONE"):
            await site.finish_state(site.send_state(uuid.uuid4(), 0, 3, b""))


@pytest.mark.parametrize(
    "data",
    [
        None,
        struct.pack("<I", 17 * 1024 * 1024),
        struct.pack("<I", 2) + b"ab",
        frame(codec.READING, 0, b"\x00"),  # pushed, and not decodable
        frame(codec.READING, 0, reading(1, 2, 3, 4)[:-1]),
    ],
)
async def test_a_connection_that_breaks_off_or_talks_rubbish_ends_and_whoever_waits_is_told(data):
    async with connected(lambda *_: data) as site:
        with pytest.raises((DeviceUnreachableError, DeviceReplyError)):
            await asyncio.wait_for(site.read_states(), 60)
        await asyncio.wait_for(site.closed(), 60)
        assert not site.is_connected
        with pytest.raises(DeviceUnreachableError):
            site.send_state(uuid.uuid4(), 0, 3, b"")


async def test_no_answer_in_time_is_unreachable(monkeypatch):
    monkeypatch.setattr("hcp_pipelines.devices.bulk.transport.REPLY_WITHIN_S", 0.05)
    monkeypatch.setattr("hcp_pipelines.devices.bulk.device.REPLY_WITHIN_S", 0.05)
    async with connected(lambda *_: b"") as site:
        with pytest.raises(DeviceUnreachableError, match="did not answer"):
            await site.read_states()
        with pytest.raises(DeviceUnreachableError, match="not answered"):
            await site.finish_state(site.send_state(uuid.uuid4(), 0, 3, b""))


async def test_power_of_another_number_of_devices_is_not_taken():
    seen = []
    pushed = frame(codec.READING, 0, reading(1, 2, 3))
    async with connected(
        lambda _, request, __: pushed + frame(codec.METERED, request, struct.pack("<ddd", 1, 2, 3)), seen
    ) as site:
        metered = await site.meter()
    assert (metered.power_w, metered.energy_wh) == (2, 3)
    assert seen == []
