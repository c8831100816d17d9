"""The world's VTN against a stock VEN: openleadr's client, unchanged, and openleadr's copy of the 2.0b schema."""

import asyncio
import logging
from datetime import timedelta

import httpx
import pytest
from openleadr.messaging import create_message, validate_xml_schema

from simulators.clock import iso
from simulators.openadr.config import MAX_VENS
from simulators.openadr.events import Event
from tests.support.openadr import SIMULATED_S, SPEED, stock_ven, vtn
from tests.support.waiting import until

RESPONSE = {"kind": "response", "at_h": 1.0, "minutes": 60, "fraction": 0.5, "site": 0, "notice_minutes": 120}


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("openleadr").setLevel(logging.CRITICAL)


def ven_of(server, name="stock"):
    return next(ven for ven in server.vtn.vens if ven.name == name)


async def test_a_stock_ven_registers_hears_the_scripted_event_and_opts_in(tmp_path):
    async with vtn(tmp_path, RESPONSE) as server, stock_ven(server) as client:
        (event,) = client.events
        told = event["event_descriptor"]
        assert told["event_status"] == "far"
        assert told["market_context"] == "http://grid.example/response"
        assert event["targets"] == [{"resource_id": "one"}]
        (signal,) = event["event_signals"]
        assert (signal["signal_name"], signal["signal_type"]) == ("LOAD_DISPATCH", "delta")
        assert signal["intervals"][0]["signal_payload"] == pytest.approx(-0.5 * 100 * 3500 * 1.1, rel=1e-3)
        begins = event["active_period"]["dtstart"].timestamp()
        assert server.clock.simulated_at_s + (begins - server.clock.real_at_s) * SPEED == pytest.approx(
            SIMULATED_S + 3600, abs=1
        )
        assert event["active_period"]["duration"] == timedelta(seconds=60)
        assert event["active_period"]["ramp_up"] == timedelta(seconds=10)
        await until(lambda: ven_of(server).answers, "the answer")
        assert ven_of(server).answers[told["event_id"]].opt_type == "optIn"
        assert client.ven_id == ven_of(server).ven_id


async def test_each_kind_of_call_is_a_signal_of_its_own_and_an_alert_is_one_for_all_sites(tmp_path):
    calls = (
        {"kind": "alert", "at_h": 0, "minutes": 600, "level": 2},
        {"kind": "deployment", "at_h": 0, "minutes": 600, "programme": "ECRS"},
        {"kind": "base_point", "at_h": 0, "minutes": 600, "fraction": 0.25, "site": 1},
    )
    async with vtn(tmp_path, *calls) as server, stock_ven(server) as client:
        seen = {}
        for event in client.events:
            (signal,) = event["event_signals"]
            told = event["event_descriptor"]
            places = tuple(target["resource_id"] for target in event["targets"])
            seen[told["market_context"].removeprefix("http://grid.example/"), places] = (
                signal["signal_name"], signal["signal_type"], signal["intervals"][0]["signal_payload"], told["event_status"],
            )  # fmt: skip
    assert seen == {
        ("alert", ("one", "two")): ("SIMPLE", "level", 2.0, "active"),
        ("deployment/ECRS", ("one",)): ("SIMPLE", "level", 1.0, "active"),
        ("deployment/ECRS", ("two",)): ("SIMPLE", "level", 1.0, "active"),
        ("base_point", ("two",)): ("LOAD_DISPATCH", "setpoint", pytest.approx(96_000, rel=0.01), "active"),
    }


async def test_opting_out_a_change_and_a_cancellation_reach_both_sides_with_their_numbers(tmp_path):
    event = Event("ev-a", "response", "", ("one",), SIMULATED_S + 7200, 3600, 0.1, told_at_s=SIMULATED_S)
    async with vtn(tmp_path) as server, stock_ven(server, on_event=lambda event: "optOut") as client:
        server.book.publish(event)
        await client._poll()
        assert ven_of(server).answers["ev-a"][1:3] == (0, "optOut")
        server.book.publish(event)
        await client._poll()
        assert ven_of(server).answers["ev-a"].modification == 1
        assert client.updates[-1]["event_descriptor"]["event_status"] == "far"
        server.book.cancel("ev-a")
        server.book.cancel("ev-a")
        await client._poll()
        assert ven_of(server).answers["ev-a"].modification == 2
        assert client.updates[-1]["event_descriptor"]["event_status"] == "cancelled"
        assert [len(client.events), len(client.updates)] == [1, 2]
        with pytest.raises(KeyError):
            server.book.cancel("ev-b")


async def test_a_scripted_call_is_cancelled_when_its_time_has_come(tmp_path):
    async with vtn(tmp_path, RESPONSE | {"cancelled_at_h": 0.01}) as server, stock_ven(server) as client:
        await until(lambda: server.clock.now_s() > SIMULATED_S + 36, "its time")
        await client._poll()
        (told,) = (event["event_descriptor"] for event in client.updates)
        assert (told["event_status"], told["modification_number"]) == ("cancelled", 1)


async def test_reported_power_arrives_in_simulated_time_and_more_can_be_asked_for(tmp_path):
    async with vtn(tmp_path) as server, stock_ven(server, power_w=lambda: 123_400.0) as client:
        ven = ven_of(server)
        await until(lambda: ven.samples, "the first report")
        ((r_id, samples),) = ven.samples.items()
        assert ven.resource_of == {r_id: "one"}
        assert samples[0].value == 123_400.0
        assert samples[0].at_s == pytest.approx(server.clock.now_s(), abs=3 * SPEED)
        specifier = client.reports[0].report_specifier_id
        server.vtn.ask_report(ven, specifier, 0)
        await client._poll()
        await until(lambda: len(client.report_requests) == 2, "the second request, by whichever poll")
        assert client.report_requests[1]["report_request_id"] in ven.asked


async def test_who_is_not_known_any_more_registers_again_and_leaves_when_it_wants_to(tmp_path):
    async with vtn(tmp_path) as server, stock_ven(server) as client:
        first = client.registration_id
        server.vtn.vens.cancel(first)
        await client._poll()
        assert client.registration_id != first
        assert ven_of(server).registration_id == client.registration_id
        await client.cancel_party_registration()
        assert list(server.vtn.vens) == []


async def test_opts_are_kept_and_taken_back(tmp_path):
    event = Event("ev-a", "response", "", ("one",), SIMULATED_S + 7200, 3600, 0.1)
    async with vtn(tmp_path) as server, stock_ven(server) as client:
        server.book.publish(event)
        given = {"opt_type": "optOut", "opt_reason": "emergency", "targets": [], "event_id": "ev-a", "opt_id": "opt-1"}
        assert await client.create_opt(**given, modification_number=0) == "opt-1"
        assert ven_of(server).opts["opt-1"][:4] == ("ev-a", 0, "optOut", "emergency")


class Raw:
    """Messages as bytes, each reply valid by the schema."""

    def __init__(self, client, server):
        self._client, self._base = client, server.urls["openadr"]
        self._headers = {"content-type": "application/xml"}

    async def post(self, service, content, **headers):
        return await self._client.post(f"{self._base}/{service}", content=content, headers=self._headers | headers)

    async def say(self, service, name, **payload):
        reply = await self.post(service, create_message(name, **payload))
        assert reply.status_code == 200
        return validate_xml_schema(reply.content)

    async def register(self, name, **more):
        """Its ids: of the VEN and of the registration."""
        asked = REGISTRATION | {"ven_name": name, **more}
        tree = await self.say("EiRegisterParty", "oadrCreatePartyRegistration", **asked)
        return tree.findtext(".//{*}venID"), tree.findtext(".//{*}registrationID")

    async def code(self, service, name, **payload):
        tree = await self.say(service, name, **payload)
        return tree.findtext(".//{*}responseCode")


@pytest.fixture
async def raw(tmp_path):
    async with vtn(tmp_path, within_s=0.5) as server, httpx.AsyncClient(trust_env=False) as client:
        raw = Raw(client, server)
        raw.server = server
        yield raw


REGISTRATION = {
    "request_id": "r1", "ven_name": "raw", "http_pull_model": True, "xml_signature": False, "report_only": False,
    "profile_name": "2.0b", "transport_name": "simpleHttp",
}  # fmt: skip


async def test_errors_are_answered_with_the_codes_of_the_standard_in_messages_that_are_valid(raw):
    ok = {"response": {"response_code": 200, "response_description": "OK", "request_id": "r"}}
    assert await raw.code("EiRegisterParty", "oadrQueryRegistration", request_id="r1") == "200"
    assert await raw.code("EiRegisterParty", "oadrCreatePartyRegistration", **REGISTRATION | {"ven_name": ""}) == "454"
    push = REGISTRATION | {"http_pull_model": False}
    assert await raw.code("EiRegisterParty", "oadrCreatePartyRegistration", **push) == "451"
    stale = REGISTRATION | {"registration_id": "none"}
    assert await raw.code("EiRegisterParty", "oadrCreatePartyRegistration", **stale) == "452"
    assert await raw.code("EiEvent", "oadrRequestEvent", request_id="r", ven_id="nobody") == "463"
    assert await raw.code("EiEvent", "oadrPoll", ven_id="nobody") == "459"
    reply = await raw.say("OadrPoll", "oadrPoll", ven_id="nobody")
    assert reply.findtext(".//{*}oadrRequestReregistration/{*}venID") == "nobody"
    registered = await raw.say("EiRegisterParty", "oadrCreatePartyRegistration", **REGISTRATION)
    ven_id = registered.findtext(".//{*}venID")
    raw.server.book.publish(Event("ev-a", "response", "", ("one",), SIMULATED_S + 7200, 3600, 0.1))
    answer = {"response_code": 200, "response_description": "OK", "request_id": "r", "opt_type": "optIn"}
    for event_id, number, code in (("ev-a", 0, "200"), ("ev-a", 5, "450"), ("ev-b", 0, "452")):
        responses = [answer | {"event_id": event_id, "modification_number": number}]
        assert await raw.code("EiEvent", "oadrCreatedEvent", ven_id=ven_id, event_responses=responses, **ok) == code
    update = {
        "request_id": "r",
        "ven_id": ven_id,
        "reports": [{"report_request_id": "never", "report_specifier_id": "s"}],
    }
    assert await raw.code("EiReport", "oadrUpdateReport", **update) == "452"
    assert await raw.code("EiOpt", "oadrCancelOpt", request_id="r", ven_id=ven_id, opt_id="none") == "452"
    assert set(raw.server.troubles) == {"450", "451", "452", "454", "459", "463"}


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b'<oadrPayload xmlns="http://openadr.org/oadr-2.0b/2012/07">&b;</oadrPayload>'
)


@pytest.mark.parametrize(
    ("content", "status", "trouble"),
    [
        (b"", 400, "malformed"),
        (b"\x00\xff not xml", 400, "malformed"),
        (b"<oadrPayload/>", 400, "malformed"),
        (BOMB, 400, "malformed"),
        (b"<a>" * 5000, 400, "malformed"),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', 400, "malformed"),
        (b" " * 300_000, 413, "oversized"),
    ],
)
async def test_what_is_no_message_is_refused_and_counted(raw, content, status, trouble):
    assert (await raw.post("OadrPoll", content)).status_code == status
    assert raw.server.troubles == {trouble: 1}
    assert await raw.code("EiRegisterParty", "oadrQueryRegistration", request_id="r1") == "200"


async def test_other_services_types_and_methods_are_refused(raw):
    assert (await raw.post("EiNothing", b"")).status_code == 404
    assert (await raw.post("OadrPoll", b"", **{"content-type": "text/plain"})).status_code == 415
    assert (await raw._client.get(f"{raw._base}/OadrPoll")).status_code == 405


@pytest.mark.parametrize("kind", ["text/xml", "text/xml; charset=utf-8", "Application/XML;charset=UTF-8"])
async def test_both_types_of_xml_are_taken(raw, kind):
    query = create_message("oadrQueryRegistration", request_id="r1")
    assert (await raw.post("EiRegisterParty", query, **{"content-type": kind})).status_code == 200


async def test_strangers_lock_nobody_out_who_polls_and_who_is_evicted_registers_again(raw):
    poller, idle = await raw.register("poller"), await raw.register("idle")
    await raw.say("OadrPoll", "oadrPoll", ven_id=poller[0])
    strangers = [await raw.register(f"stranger-{number}") for number in range(MAX_VENS)]
    late = await raw.register("late")
    known = {ven.ven_id for ven in raw.server.vtn.vens}
    assert len(known) == MAX_VENS
    assert {poller[0], late[0], strangers[-1][0]} < known
    assert not {idle[0], strangers[0][0]} & known
    told = await raw.say("OadrPoll", "oadrPoll", ven_id=idle[0])
    assert told.findtext(".//{*}oadrRequestReregistration/{*}venID") == idle[0]
    again = await raw.register("idle", registration_id=idle[1], ven_id=idle[0])
    assert raw.server.vtn.vens.get(again[0]).name == "idle"


async def test_of_those_that_poll_the_one_that_has_not_for_longest_is_evicted(raw):
    vens = [await raw.register(f"ven-{number}") for number in range(MAX_VENS)]
    for ven_id, _ in (*vens, vens[0]):
        await raw.say("OadrPoll", "oadrPoll", ven_id=ven_id)
    late = await raw.register("late")
    assert {ven.ven_id for ven in raw.server.vtn.vens} == {late[0], *(ven_id for ven_id, _ in vens)} - {vens[1][0]}


async def test_a_name_alone_is_nobodys_registration(raw):
    first = await raw.register("raw")
    other = await raw.register("raw")
    assert (first[0] != other[0], first[1] != other[1]) == (True, True)
    assert await raw.register("raw", registration_id=first[1], ven_id=first[0]) == first
    assert await raw.register("renamed", registration_id=other[1], ven_id=other[0]) == other
    assert [ven.name for ven in raw.server.vtn.vens] == ["raw", "renamed"]


async def test_slow_and_half_closed_requests_are_cut_off_or_answered_and_others_go_on(raw):
    types = b"host: x\r\ncontent-type: application/xml\r\ncontent-length: 50\r\n\r\n"
    head = b"POST /OpenADR2/Simple/2.0b/OadrPoll HTTP/1.1\r\n" + types
    lines = [await asyncio.open_connection("127.0.0.1", raw.server.port) for _ in range(3)]
    for (_, writer), sent in zip(lines, (head[:20], head + b"<oadr", head + b"<oadr"), strict=True):
        writer.write(sent)
    lines[2][1].write_eof()
    assert await raw.code("EiRegisterParty", "oadrQueryRegistration", request_id="r1") == "200"
    replies = [await asyncio.wait_for(reader.read(), 60) for reader, _ in lines]
    assert replies[:2] == [b"", b""]
    assert replies[2].startswith(b"HTTP/1.1 400")
    for _, writer in lines:
        writer.close()
    assert raw.server.troubles == {"slow": 2, "torn": 1}


async def test_what_was_seen_is_there_to_be_looked_at(raw):
    registered = await raw.say("EiRegisterParty", "oadrCreatePartyRegistration", **REGISTRATION)
    raw.server.book.publish(Event("ev-a", "response", "", ("one",), SIMULATED_S + 7200, 3600, 0.1))
    seen = (await raw._client.get(f"http://127.0.0.1:{raw.server.port}/openadr/seen")).json()
    (event,) = seen["events"]
    assert (event["event"], event["from"], event["answers"]) == ("ev-a", iso(SIMULATED_S + 7200), {})
    assert seen["vens"]["raw"]["ven"] == registered.findtext(".//{*}venID")
