"""A gateway's own price from a URL, over a real socket: whatever the other side does, it goes on and says what was wrong."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.edge import local_prices
from hcp_pipelines.edge.config import LocalPrices
from hcp_pipelines.edge.local_prices import PriceSource
from tests.support.edge import until

NOW = datetime(2025, 1, 1, 12, tzinfo=UTC)
FRESH_S = 900.0


def page(price=31.5, at=NOW, **more):
    return json.dumps({"price_usd_per_mwh": price, "at": at.isoformat(), **more}).encode()


def reply(body, status="200 OK", headers=()):
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Site:
    """A server that says the bytes of `says`, piece by piece, and a gateway's price source that reads it."""

    def __init__(self):
        self.says, self.pause_s, self.asked = [reply(page())], 0.0, []
        self.clock, self._talks = ManualClock(NOW), []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{self._port}/price"
        self.source = PriceSource(LocalPrices(url=url, settlement_point="HB_NORTH"), self.clock)
        self.watching = asyncio.create_task(self.source.watch())
        return self

    async def __aexit__(self, *_):
        assert not self.watching.done(), "nothing that comes may end it"
        self.watching.cancel()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(self.watching, *self._talks, return_exceptions=True)
        self.close()
        await self._server.wait_closed()

    async def _answer(self, reader, writer):
        self._talks.append(asyncio.current_task())
        try:
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
            for piece in self.says:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(self.pause_s)
        except (OSError, asyncio.IncompleteReadError):
            pass  # it has given up
        finally:
            writer.close()

    async def reads(self, *says, pause_s=0.0):
        """What is said from now on has been read, or given up, at least once."""
        self.says, self.pause_s = list(says), pause_s
        asked = len(self.asked) + 2
        await until(lambda: len(self.asked) >= asked, "it asks on and on")

    async def becomes(self, price):
        """A good answer comes, and is taken."""
        self.says, self.pause_s = [reply(page(price))], 0.0
        await until(lambda: self.price() == price, "the new price is taken")

    def close(self):
        self._server.close()

    def price(self):
        return self.source.price(FRESH_S)


@pytest.fixture
async def site(monkeypatch):
    monkeypatch.setattr(local_prices, "READ_EACH_S", 0.01)
    with capture_logs() as logs:
        async with Site() as opened:
            opened.logs = logs
            await until(lambda: opened.price() == 31.5, "the first is read")
            yield opened


def problems(site):
    return [line["error"] for line in site.logs if line["log_level"] == "warning"]


async def test_it_follows_and_asks_for_plain_bytes(site):
    await site.reads(reply(page(40.0, note="more than is read of it is no harm")))
    assert site.price() == 40.0
    assert "accept-encoding: identity" in site.asked[-1]
    assert problems(site) == []


async def test_a_stale_price_is_none_and_one_of_the_future_is_none_yet(site):
    site.clock.advance(FRESH_S)
    assert site.price() == 31.5
    site.clock.advance(1.0)
    assert site.price() is None
    await site.reads(reply(page(40.0, at=NOW + timedelta(hours=1))))
    assert site.price() is None
    site.clock.advance(3600.0 - FRESH_S)
    assert site.price() == 40.0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSONDecodeError"),
        (b"31.5", "TypeError"),
        (b"\xff\xfe{", "UnicodeDecodeError"),
        (b"[" * 60_000, "RecursionError"),
        (b'{"price_usd_per_mwh": 31.5}', "KeyError: 'at'"),
        (page().replace(b"31.5", b"NaN"), "price nan"),
        (page().replace(b"31.5", b"1" + b"0" * 400), "price 1000"),
        (page().replace(b"31.5", b"true"), "price True"),
        (page().replace(b"31.5", b'"31.5"'), "price 31.5 at"),
        (page(1e6), "price 1000000.0"),
        (page(at=NOW.replace(tzinfo=None)), "an instant with an offset"),
        (page().replace(b"2025-01-01", b"2025-13-01"), "ValueError"),
    ],
)
async def test_what_is_malformed_is_told_once_and_the_last_good_price_stays(site, body, words):
    await site.reads(reply(body))
    assert site.price() == 31.5
    (told,) = problems(site)
    assert words in told
    await site.becomes(20.0)
    assert [line["event"] for line in site.logs][-1] == "the local price can be used again"


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ([b"not HTTP at all\r\n\r\n"], "RemoteProtocolError"),
        ([reply(page(40.0))[:-5]], "RemoteProtocolError"),
        ([b""], "RemoteProtocolError"),
        ([reply(page(40.0), status="500 Oops")], "500 Oops"),
        ([reply(b"", status="302 Found", headers=("Location: http://127.0.0.1:1/",))], "302 Found"),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000], "RemoteProtocolError"),
    ],
)
async def test_what_is_no_answer_is_told_and_the_last_good_price_stays(site, says, words):
    await site.reads(*says)
    assert site.price() == 31.5
    assert words in problems(site)[0]


async def test_an_answer_without_end_is_cut_off(site):
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    await site.reads(head, *[b" " * 8192] * 100)
    assert f"more than {local_prices.REPLY_MAX_BYTES} bytes" in problems(site)[0]
    assert site.price() == 31.5


async def test_one_that_says_nothing_and_one_that_says_it_byte_by_byte_are_given_up(site, monkeypatch):
    monkeypatch.setattr(local_prices, "READ_WITHIN_S", 0.3)
    await site.reads(b"", pause_s=60.0)
    assert "no whole answer" in problems(site)[0] or "ReadTimeout" in problems(site)[0]
    drip = [bytes([byte]) for byte in reply(page(40.0))]
    await site.reads(*drip, pause_s=0.1)  # no single read is late
    assert "no whole answer within 0.3 s" in problems(site)[-1]
    await site.becomes(20.0)


async def test_nobody_there_is_told_once_and_the_price_grows_old(site):
    site.close()
    await until(lambda: problems(site), "the loss is noticed")
    await asyncio.sleep(0.2)
    assert len(problems(site)) == 1, "not each time"
    assert "ConnectError" in problems(site)[0]
    assert site.price() == 31.5
    site.clock.advance(FRESH_S + 1)
    assert site.price() is None
