"""Our VEN against two servers: openleadr's, which we did not write, and the world's. Also servers that answer badly."""

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from openleadr.utils import certificate_fingerprint

from hcp_pipelines.domain.errors import ConfigError, MarketError
from hcp_pipelines.markets.openadr import Credentials, Ven
from hcp_pipelines.markets.openadr_events import Answer, event_of
from simulators.openadr.events import Event as WorldEvent
from tests.support.certificates import Authority
from tests.support.openadr import SIMULATED_S, vtn
from tests.support.stock_vtn import free_port, stock_server
from tests.support.waiting import until

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")  # openleadr's server


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("openleadr").setLevel(logging.CRITICAL)


class Heard(list):
    """An event handler that keeps what it hears, and answers the same each time."""

    def __init__(self, answer=None):
        super().__init__()
        self.answer = answer or Answer(True)

    async def __call__(self, event):
        self.append(event)
        return self.answer


async def watts():
    return 1_250_000.0


@contextlib.asynccontextmanager
async def registered(url, heard, meters=None, credentials=None):
    ven = Ven("hcp", url, heard, meters or {}, credentials, report_s=1)
    try:
        await ven.register()
        yield ven
    finally:
        await ven.close()
        await ven.close()


async def test_with_a_stock_server_it_registers_hears_an_event_answers_and_hears_its_cancellation():
    async with stock_server() as stock:
        begins = stock.ask()
        heard = Heard()
        async with registered(stock.url, heard) as ven:
            assert stock.registered == ["hcp"]
            (event,) = heard
            assert (event.event_id, event.modification, event.programme) == ("ev-1", 0, "http://utility.example/dr")
            assert (event.signal, event.resources) == ("power_change", ("one",))
            assert event.start_at == begins
            assert (event.end_at - event.start_at, event.intervals[0].value) == (timedelta(seconds=900), -0.2)
            assert stock.opts == {"ev-1": "optIn"}
            stock.server.cancel_event("ven-1", "ev-1")
            await ven.poll()
            assert (heard[-1].is_cancelled, heard[-1].modification) == (True, 1)
            assert not ven.is_lost


async def test_with_a_stock_server_it_opts_out_and_reports_watts_when_asked():
    async with stock_server() as stock:
        stock.ask(signal=("SIMPLE", "level"), watts=2)
        heard = Heard(Answer(False, "1.20 MW can't be met: <too little> & more"))
        async with registered(stock.url, heard, {"one": watts}):
            assert stock.opts == {"ev-1": "optOut"}
            assert (heard[0].signal, heard[0].intervals[0].value) == ("level", 2.0)
            await until(lambda: stock.watts, "a report")
            assert (stock.resource, stock.unit, stock.watts[0][1]) == ("one", "W", 1_250_000.0)


async def test_the_reason_for_being_out_reaches_the_worlds_server_and_reports_do(tmp_path):
    async with vtn(tmp_path) as server:
        server.book.publish(WorldEvent("ev-a", "response", "", ("one",), SIMULATED_S + 7200, 3600, 0.1, ramp_s=300))
        heard = Heard(Answer(False, "a < b & c"))
        async with registered(server.urls["openadr"], heard, {"one": watts}) as ven:
            (known,) = server.vtn.vens
            assert known.answers["ev-a"][1:] == (0, "optOut", "a < b & c")
            assert heard[0].ramp_up == timedelta(seconds=5)
            assert ven.poll_s == 1
            await until(lambda: known.samples, "a report")
            server.book.cancel("ev-a")
            await ven.poll()
            assert known.answers["ev-a"].modification == 1


async def test_a_server_that_has_forgotten_it_is_told_from_one_that_is_away(tmp_path):
    async with vtn(tmp_path) as server, registered(server.urls["openadr"], Heard()) as ven:
        server.vtn.vens.cancel(ven._client.registration_id)
        with pytest.raises(MarketError, match="does not know us"):
            await ven.poll()
        assert ven.is_lost
        async with registered(server.urls["openadr"], Heard()) as again:
            await server.stop()
            for failures in range(1, 4):
                with pytest.raises(MarketError, match="no answer"):
                    await again.poll()
                assert again.is_lost == (failures == 3)


async def test_over_tls_both_show_certificates_sign_and_know_each_others_fingerprints(tmp_path):
    authority = Authority(tmp_path)
    (vtn_crt, vtn_key), (ven_crt, ven_key) = authority.issue("vtn"), authority.issue("ven")
    fingerprint = certificate_fingerprint(ven_crt.read_text())

    async def known(ven_id):
        return fingerprint

    secure = {"cert": vtn_crt, "key": vtn_key, "http_cert": vtn_crt, "http_key": vtn_key}
    async with stock_server(**secure, http_ca_file=authority.certificate, fingerprint_lookup=known) as stock:
        stock.ask()
        ours = Credentials(
            ven_crt, ven_key, ca=authority.certificate, vtn_fingerprint=certificate_fingerprint(vtn_crt.read_text())
        )
        heard = Heard()
        async with registered(stock.url, heard, credentials=ours):
            assert ([event.event_id for event in heard], stock.opts) == (["ev-1"], {"ev-1": "optIn"})
        (tmp_path / "other").mkdir()
        strangers = Authority(tmp_path / "other")
        for wrong in (
            replace(ours, ca=strangers.certificate),
            replace(ours, vtn_fingerprint="00:" * 9 + "00"),
            Credentials(*strangers.issue("ven"), ca=authority.certificate),
            Credentials(ca=authority.certificate),
        ):
            with pytest.raises(MarketError, match="no answer"):
                async with registered(stock.url, Heard(), credentials=wrong):
                    pass


async def test_certificates_that_are_none_are_a_wrong_setting(tmp_path):
    (tmp_path / "x").write_text("no certificate")
    for wrong in (Credentials(tmp_path / "none", tmp_path / "none"), Credentials(ca=tmp_path / "x")):
        with pytest.raises(ConfigError):
            async with registered("https://127.0.0.1:1/x", Heard(), credentials=wrong):
                pass


async def test_a_handler_that_fails_says_neither_in_nor_out_and_a_new_node_is_asked_again():
    async def broken(event):
        raise RuntimeError("a defect")

    async with stock_server() as stock:
        async with registered(stock.url, broken) as ven:
            stock.ask()
            with pytest.raises(MarketError, match="a defect"):
                await ven.poll()
            assert (ven.is_lost, stock.opts) == (True, {})
        heard = Heard()
        async with registered(stock.url, heard):
            assert (len(heard), stock.opts) == (1, {"ev-1": "optIn"})


async def test_nobody_there_is_a_market_error():
    with pytest.raises(MarketError, match="no answer"):
        async with registered(f"http://127.0.0.1:{free_port()}/x", Heard()):
            pass


PAYLOAD = '<oadrPayload xmlns="http://openadr.org/oadr-2.0b/2012/07">{}</oadrPayload>'
DTD = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]>' + PAYLOAD.format("&a;")
REPLIES = {
    "nothing": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "no http": b"\x00\x01\x02\r\n\r\n",
    "torn": b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n<oadr",
    "no xml": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "no message": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(PAYLOAD), PAYLOAD.encode()),
    "entities": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(DTD), DTD.encode()),
    "an error": b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
    "oversized": b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + b"<a>" * 2_000_000,
    "late": b"",
}


@pytest.mark.parametrize("kind", REPLIES)
async def test_replies_that_are_none_are_market_errors(kind, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.markets.openadr.REPLY_WITHIN_S", 0.5)

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
            writer.write(REPLIES[kind])
            if kind == "late":
                await reader.read()  # until the client gives up
            await writer.drain()
        writer.close()
        served.set()

    served = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with pytest.raises(MarketError):
            async with registered(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x", Heard()):
                pass
        await served.wait()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 399])
async def test_no_redirect_is_followed_and_the_other_host_hears_nothing(status):
    connections = []

    async def elsewhere(reader, writer):
        connections.append(await reader.read(1))
        writer.close()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} Moved\r\nlocation: {there}\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    other, server = [await asyncio.start_server(each, "127.0.0.1", 0) for each in (elsewhere, serve)]
    there, here = [f"http://127.0.0.1:{each.sockets[0].getsockname()[1]}/x" for each in (other, server)]
    async with other, server:
        with pytest.raises(MarketError, match=f"status {status}, and a redirect .*{there}.* is not followed"):
            async with registered(here, Heard()):
                pass
    assert connections == []


BEGINS = datetime(2025, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def told(**changes):
    """An event as openleadr hands it over."""
    signal = {
        "signal_name": "LOAD_DISPATCH", "signal_type": "delta", "intervals": [{"duration": HOUR, "signal_payload": -2.0}],
        "measurement": {"scale": "M"},
    }  # fmt: skip
    event = {
        "event_descriptor": {
            "event_id": 7, "modification_number": 3, "market_context": "http://x", "event_status": "far",
        },
        "active_period": {"dtstart": BEGINS, "duration": HOUR}, "event_signals": [signal], "targets": [],
    }  # fmt: skip
    return event | changes


def test_an_event_is_read_with_its_scale_and_the_most_telling_of_its_signals():
    event = event_of(told())
    assert (event.event_id, event.modification, event.intervals[0].value) == ("7", 3, -2.0)
    assert (event.start_at, event.end_at) == (BEGINS, BEGINS + HOUR)
    simple = {"signal_name": "SIMPLE", "signal_type": "level", "intervals": [{"duration": HOUR, "signal_payload": 1.0}]}
    both = told(event_signals=[simple, *told()["event_signals"]])
    assert event_of(both).signal == "power_change"
    assert event_of(told(event_signals=[simple])).intervals[0].value == 1.0
    baseline = told(event_signals={"event_signals": [simple], "event_baseline": {}})
    assert event_of(baseline).signal == "level"


def test_intervals_follow_each_other_and_one_without_end_has_none():
    stretches = [{"duration": HOUR / 2, "signal_payload": v, "dtstart": None} for v in (0.0, 1.0)]
    signal = {"signal_name": "SIMPLE", "signal_type": "level", "intervals": stretches}
    first, second = event_of(told(event_signals=[signal])).intervals
    assert (first.end_at, second.start_at, second.end_at) == (second.start_at, BEGINS + HOUR / 2, BEGINS + HOUR)
    endless = told(active_period={"dtstart": BEGINS, "duration": timedelta(0)})
    endless["event_signals"][0]["intervals"][0].pop("duration")
    assert event_of(endless).end_at is None


@pytest.mark.parametrize(
    "changes",
    [
        {"active_period": {"dtstart": "no instant", "duration": HOUR}},
        {"active_period": {"dtstart": BEGINS.replace(tzinfo=None), "duration": HOUR}},
        {"active_period": {"dtstart": BEGINS, "duration": "PT1H"}, "event_signals": []},
        {"event_signals": [{"signal_name": "SIMPLE", "signal_type": "level", "intervals": []}]},
        {
            "event_signals": [
                {"signal_name": "SIMPLE", "signal_type": "level", "intervals": [{"signal_payload": "nan"}]}
            ]
        },
        {"event_descriptor": {}},
        {"targets": [{"resource_id": str(n)} for n in range(300)]},
    ],
)
def test_what_can_not_be_read_is_a_market_error(changes):
    with pytest.raises(MarketError, match="can't be read"):
        event_of(told(**changes))
