"""The miner driver against miners that fail, lie, hang or talk rubbish: errors by what to do, nothing half read written back."""

import asyncio
import contextlib

import pytest

from hcp_pipelines.devices.miner.api import call, luxos
from hcp_pipelines.devices.miner.evidence import power_of, state_of
from hcp_pipelines.devices.miner.identify import ask_dialect
from hcp_pipelines.devices.miner.telemetry import MinerOptions
from hcp_pipelines.devices.miner.transport import REPLY_MAX_BYTES, Framing, exchange
from hcp_pipelines.devices.miner.web import AntminerPages, new_client
from hcp_pipelines.devices.site import Evidence
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError
from simulators import faults
from simulators.miners import antminer_web
from tests.support.miner_driver import OLD_MD5, STATES, Rig
from tests.support.miners import FULL, OFF, Hall

pytestmark = OLD_MD5
DIALECTS = ["stock", "whatsminer", "whatsminer-v3", "luxos"]


@pytest.fixture
async def rig(tmp_path, request):
    name = request.param
    async with Hall(tmp_path, name, speed=1000.0, is_mapped=False) as hall, Rig(hall, 0, name, tmp_path) as rig:
        await rig.to(FULL)
        yield rig


each_dialect = pytest.mark.parametrize("rig", DIALECTS, indirect=True)
only_stock = pytest.mark.parametrize("rig", ["stock"], indirect=True)


@each_dialect
@pytest.mark.parametrize("fault", [faults.HUNG, faults.UNREACHABLE])
async def test_a_device_that_does_not_answer_is_unreachable_within_the_deadline(rig, fault):
    async with Rig(rig.hall, 0, rig.group.firmware, rig.profiles._path.parent, deadline_s=0.3) as other:
        device = await other.the_device()
        rig.hall.break_(0, fault)
        began = asyncio.get_running_loop().time()
        for work in (device.read(), other.to(OFF), ask_dialect(other.address, other.options)):
            with pytest.raises(DeviceUnreachableError):
                await work
    assert asyncio.get_running_loop().time() - began < 50, "pyasic's own sockets wait 100 s"


@each_dialect
@pytest.mark.parametrize("fault", [faults.FALSE_ACK, faults.STUCK])
async def test_a_false_ack_is_seen_in_what_is_read_back(rig, fault):
    rig.hall.break_(0, fault)
    await rig.to(OFF)
    told = await rig.read_back()
    power_w, _ = power_of(told, rig.group.levels)
    assert power_w == pytest.approx(rig.truth.power_w, rel=0.03)
    assert power_w > 3000, "whatever it says of its mode"


async def test_an_s21_of_february_2025_says_ok_and_goes_on(tmp_path):
    name = "stock@2025-02"
    async with Hall(tmp_path, name, speed=1000.0, is_mapped=False) as hall, Rig(hall, 0, name, tmp_path) as rig:
        hall.set(0, FULL)
        await rig.to(OFF)
        told = await rig.read_back()
        assert state_of(told, rig.group.levels) is STATES[FULL]
        assert power_of(told, rig.group.levels) == (3500.0, Evidence.INFERRED)


@each_dialect
async def test_a_liar_is_taken_for_no_more_than_it_can_be(rig):
    rig.hall.break_(0, faults.LYING)
    told = await rig.read_back()
    assert told.hash_rate_th_per_s > rig.truth.hashrate_th_per_s
    assert power_of(told, rig.group.levels)[0] == pytest.approx(rig.truth.power_w, rel=0.03)


@each_dialect
async def test_a_wake_into_another_profile_is_seen_and_mended_by_a_second_word(rig):
    await rig.to(OFF)
    rig.hall.break_(0, faults.WRONG_WAKE)
    await rig.to(FULL)
    level = rig.group.level(FULL)
    power_w, _ = power_of(await rig.read_back(), rig.group.levels)
    assert abs(power_w - level.power_w) > 0.08 * level.power_w
    rig.hall.mend(0, faults.WRONG_WAKE)
    await rig.to(FULL)
    power_w, _ = power_of(await rig.read_back(), rig.group.levels)
    assert power_w == pytest.approx(level.power_w, rel=0.08)


# -- stock: nothing is written back that was half read -----------------------------------------------------------------


def pools_of(rig):
    return [pool.url for pool in rig.hall.server._hall.at(rig.address).pools if pool.url]


@pytest.fixture
def page(monkeypatch):
    """Replace a page of the miners' web servers for one test."""

    def replace(name, respond):
        monkeypatch.setitem(antminer_web._PAGES, name, respond)

    return replace


@only_stock
@pytest.mark.parametrize("body", [b"{}", b'{"pools": []', b'["a"]', b'{"pools": [], "bitmain-work-mode": 0}'])
async def test_a_half_read_configuration_is_never_written_back(rig, page, body):
    written = []
    page("set_miner_conf", lambda miner, request: written.append(request) or antminer_web.page(500))
    page("get_miner_conf", lambda miner, request: antminer_web.Response(200, body, "application/json"))
    with pytest.raises(DeviceReplyError):
        await rig.to(OFF)
    assert written == []


@only_stock
async def test_a_failing_read_is_never_written_back(rig, page):
    before = pools_of(rig)
    page("get_miner_conf", lambda miner, request: antminer_web.page(500))
    with pytest.raises(DeviceReplyError, match="status 500"):
        await rig.to(OFF)
    assert pools_of(rig) == before
    assert rig.truth.state == FULL


@only_stock
async def test_all_of_the_configuration_survives_sleep_and_wake(rig):
    device = await rig.the_device()
    before = await device._read_configuration()
    await rig.to(OFF)
    await rig.to(FULL)
    assert await device._read_configuration() == before
    assert len(pools_of(rig)) == 3


@only_stock
async def test_pools_lost_in_its_sleep_come_back_with_the_wake(rig):
    await rig.to(OFF)
    memory = rig.hall.server._hall.at(rig.address).memory
    before = pools_of(rig)
    memory.pools = [type(memory.pools[0])("", "", "")] * 3
    await rig.to(FULL)
    assert pools_of(rig) == before
    assert rig.truth.hashrate_th_per_s > 180


@only_stock
async def test_a_miner_that_wakes_without_a_pool_gets_the_remembered_ones_with_the_next_word(rig):
    await rig.to(OFF)
    rig.hall.break_(0, faults.NO_POOL)
    told = await rig.to(FULL)
    assert (pools_of(rig), told.hash_rate_th_per_s, rig.truth.power_w) == ([], 0.0, 50.0)
    with pytest.raises(DeviceReplyError, match="without a pool is not written back"):
        await rig.to(OFF)
    await rig.to(FULL)
    assert len(pools_of(rig)) == 3, "the refused sleep has not put the blank configuration in their place"
    assert rig.truth.hashrate_th_per_s > 180


@only_stock
async def test_without_any_pool_nothing_is_written(rig):
    memory = rig.hall.server._hall.at(rig.address).memory
    memory.pools = [type(memory.pools[0])("", "", "")] * 3
    with pytest.raises(DeviceReplyError, match="without a pool is not written back"):
        await rig.to(OFF)


@only_stock
async def test_an_answer_that_comes_late_is_judged_by_what_is_read_back(rig, page):
    def applied_but_silent(miner, request):
        antminer_web._set_conf(miner, request)
        return antminer_web.Response(200, b"{}", "application/json", after_s=60.0)

    page("set_miner_conf", applied_but_silent)
    await rig.to(OFF)
    assert rig.truth.state == OFF


@only_stock
async def test_a_write_that_is_refused_is_refused(rig, page):
    page("set_miner_conf", lambda miner, request: antminer_web._json(antminer_web._BAD_POOLS))
    with pytest.raises(DeviceRefusedError, match="M001"):
        await rig.to(OFF)


@only_stock
async def test_another_password_is_refused(rig):
    async with Rig(rig.hall, 0, "stock", rig.profiles._path.parent, passwords={"antminer": "secret"}) as other:
        with pytest.raises(DeviceRefusedError, match="password"):
            await other.to(OFF)


@pytest.mark.parametrize(
    ("rig", "dialect"), [("whatsminer", "whatsminer-v2"), ("whatsminer-v3", "whatsminer-v3")], indirect=["rig"]
)
async def test_another_password_of_a_whatsminer_is_refused(rig, dialect):
    async with Rig(rig.hall, 0, rig.group.firmware, rig.profiles._path.parent, passwords={dialect: "secret"}) as other:
        with pytest.raises(DeviceRefusedError):
            await other.to(OFF)
    assert rig.truth.state == FULL


# -- rubbish on every port ------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def speaking(answer):
    """A server that answers every connection with some bytes; None: with nothing."""

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await reader.read(1)
            if answer is None:
                await asyncio.sleep(30)
            for part in answer or ():
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def parts(*texts):
    return [text.encode() if isinstance(text, str) else text for text in texts]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (parts("hello"), DeviceReplyError, "not JSON.*hello"),
        (parts("{}"), DeviceReplyError, "an empty reply"),
        (parts('["a"]'), DeviceReplyError, "127.0.0.1"),
        (parts("null"), DeviceReplyError, "127.0.0.1"),
        (parts('{"STATUS":[]}'), DeviceReplyError, "127.0.0.1"),
        (
            parts('{"STATUS":[{"STATUS":"E","Code":14,"Msg":"Invalid command"}],"id":1}\0'),
            DeviceRefusedError,
            "Invalid",
        ),
        (parts(b"\xff\xfe\0"), DeviceReplyError, "127.0.0.1"),
        (parts("{" * 5000), DeviceReplyError, "127.0.0.1"),
        ([], DeviceUnreachableError, "without a reply"),
        (None, DeviceUnreachableError, "no whole reply"),
        ([b"x" * 65_536] * (REPLY_MAX_BYTES // 65_536 + 2), DeviceReplyError, "more than"),
    ],
)
async def test_whatever_comes_on_port_4028_is_one_of_our_errors(answer, error, words):
    deadline_s = 0.5 if answer is None else 30.0
    async with speaking(answer) as port:
        api = luxos("127.0.0.1", MinerOptions(api_port=port, deadline_s=deadline_s))
        with pytest.raises(error, match=words):
            await call(api.summary(), api, "summary", 2 * deadline_s)
        with pytest.raises((DeviceReplyError, DeviceUnreachableError, DeviceRefusedError)):
            await asyncio.wait_for(_identified(port), 60)


async def _identified(port):
    found = await ask_dialect("127.0.0.1", MinerOptions(api_port=port, v3_port=1, deadline_s=0.5))
    raise DeviceReplyError(found.dialect)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (parts(b"\xff\xff\xff\xff"), DeviceReplyError),
        (parts(b"\x05\x00\x00\x00ab"), DeviceUnreachableError),
        (parts(b"\x02\x00"), DeviceUnreachableError),
        ([], DeviceUnreachableError),
        (None, DeviceUnreachableError),
    ],
)
async def test_a_frame_of_version_3_that_is_none_is_one_of_our_errors(answer, error):
    async with speaking(answer) as port:
        with pytest.raises(error):
            await exchange("127.0.0.1", port, b"x", 0.5, Framing.LENGTH)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (parts("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"), DeviceReplyError),
        (parts("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), DeviceUnreachableError),
        (parts("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), DeviceReplyError),
        (parts("garbage\r\n\r\n"), DeviceUnreachableError),
        (parts("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), DeviceRefusedError),
        ([], DeviceUnreachableError),
    ],
)
async def test_a_web_page_that_is_none_is_one_of_our_errors(answer, error):
    client = new_client(2)
    async with speaking(answer) as port:
        with pytest.raises(error):
            await asyncio.wait_for(AntminerPages(client, "127.0.0.1", port, "root").fetch("stats"), 3)
    await client.aclose()


async def test_a_page_without_an_end_is_not_read_for_ever(monkeypatch):
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    client = new_client(2)
    async with speaking(parts(head, *(["x" * 65_536] * (REPLY_MAX_BYTES // 65_536 + 40)))) as port:
        with pytest.raises(DeviceReplyError, match="more than"):
            await asyncio.wait_for(AntminerPages(client, "127.0.0.1", port, "root").fetch("stats"), 5)
    await client.aclose()
