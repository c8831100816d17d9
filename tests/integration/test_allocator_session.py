"""The owner's session with a gateway that is broken or lies, over a real socket: it is given up, and begun anew."""

import asyncio
import uuid

import grpc
import pytest

from hcp_pipelines.allocator.devices import UNKNOWN, Devices
from hcp_pipelines.allocator.incoming import check
from hcp_pipelines.allocator.session import CannotAnnounceError, GatewaySession, Handlers
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire import edge_v1_pb2_grpc
from hcp_pipelines.wire.certificates import issue, make_authority
from hcp_pipelines.wire.channels import ClientTls
from hcp_pipelines.wire.slots import decode_slots
from tests.support import fleet

GOOD = pb.GatewayMessage(ack=pb.Ack(command_id=str(uuid.uuid4()), seq=1))
BEYOND = 2**63


NONSENSE = [
    pb.GatewayMessage(ack=pb.Ack(command_id="no uuid")),
    pb.GatewayMessage(ack=pb.Ack(command_id=str(uuid.uuid4()), seq=BEYOND)),
    pb.GatewayMessage(ack=pb.Ack(command_id=str(uuid.uuid4()), detail="a\0b")),
    pb.GatewayMessage(ack=pb.Ack(command_id=str(uuid.uuid4()), detail="x" * 10_000)),
    pb.GatewayMessage(ack=pb.Ack(command_id=str(uuid.uuid4()), assignments=[pb.AssignmentAck(index=2**31)])),
    pb.GatewayMessage(
        ack=pb.Ack(command_id=str(uuid.uuid4()), assignments=[pb.AssignmentAck(refused=[pb.Refused(code="\0")])])
    ),
    pb.GatewayMessage(settled=pb.Settled(command_id=str(uuid.uuid4()), index=2**31)),
    pb.GatewayMessage(settled=pb.Settled(command_id=str(uuid.uuid4()), simulated_at="soon")),
    pb.GatewayMessage(settled=pb.Settled(command_id=str(uuid.uuid4()), simulated_at="2025-01-01T00:00:00")),
    pb.GatewayMessage(settled=pb.Settled(command_id=str(uuid.uuid4()), simulated_at="9999-12-31T23:59:59-14:00")),
    pb.GatewayMessage(local_event=pb.LocalEvent(kind="shed", simulated_at="0001-01-01T00:00:00+14:00")),
    pb.GatewayMessage(local_event=pb.LocalEvent(kind="fallback", state=200)),
    pb.GatewayMessage(local_event=pb.LocalEvent(kind="\0")),
    pb.GatewayMessage(local_event=pb.LocalEvent(kind="fallback", mw_delta=float("nan"))),
    pb.GatewayMessage(local_event=pb.LocalEvent(kind="fallback", mw_delta=-1e300)),
]


@pytest.mark.parametrize("message", NONSENSE)
def test_what_makes_no_sense_is_told_before_it_is_believed(message):
    with pytest.raises(ValueError, match=r"."):
        check(message)


def test_what_makes_sense_is_taken():
    check(GOOD)
    check(pb.GatewayMessage(settled=pb.Settled(command_id=str(uuid.uuid4()), simulated_at="2025-01-01T00:00:00+00:00")))
    check(pb.GatewayMessage(local_event=pb.LocalEvent(kind="resumed", seq=4)))


def test_states_that_do_not_exist_are_unknown():
    site = fleet.site()
    devices = Devices(site, slack_s=0.0)
    devices.adopt(bytes([200]) * site.shape.slots, bytes([201]) * site.shape.slots, 0.0)
    assert set(devices.states.tolist()) == {UNKNOWN}
    assert devices.reconcile(bytes([200]) * site.shape.slots, bytes([199]) * site.shape.slots, 1e12) == []


class Gateway(edge_v1_pb2_grpc.EdgeGatewayServicer):
    """Accepts each owner, and sends what it is told to in each session."""

    def __init__(self, *sessions):
        self.sessions, self.announced, self.asked = list(sessions), 0, 0

    async def Read(self, request, context):  # noqa: N802
        self.asked += 1
        await asyncio.sleep(60)

    async def Session(self, request_iterator, context):  # noqa: N802
        await anext(aiter(request_iterator))
        self.announced += 1
        yield pb.GatewayMessage(announce_reply=pb.AnnounceReply(accepted=True))
        for message in self.sessions.pop(0) if self.sessions else ():
            yield message
        await asyncio.sleep(60)


@pytest.fixture
async def connected(tmp_path):
    """Runs a session against a gateway: (received, session, gateway)."""
    opened = []

    async def connect(*sessions, received=None):
        gateway, server, taken = Gateway(*sessions), grpc.aio.server(), []
        edge_v1_pb2_grpc.add_EdgeGatewayServicer_to_server(gateway, server)
        server.add_insecure_port(f"unix:{tmp_path}/g.sock")
        await server.start()

        async def announce():
            return pb.Announce(facility_id="f", owner="a", epoch=1, generation=1, lease_epoch=1)

        handlers = Handlers(lambda _: None, received or taken.append, lambda _: None, lambda _: None, announce)
        session = GatewaySession("f", f"unix:{tmp_path}/g.sock", handlers)
        task = asyncio.create_task(session.run())
        opened.extend([(server, task)])
        return taken, session, gateway, task

    yield connect
    for server, task in opened:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await server.stop(0)


async def until(condition):
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "failure", [lambda m: check(NONSENSE[0]), lambda m: decode_slots(b"xx", 10), lambda m: GOOD.ack.assignments[1]]
)
async def test_after_nonsense_the_owner_announces_anew(connected, failure):
    taken = []

    def receive(message):
        taken.append(message)
        if len(taken) == 1:
            failure(message)

    _, session, gateway, task = await connected([GOOD], [GOOD], received=receive)
    await until(lambda: len(taken) == 2)
    assert gateway.announced == 2
    assert not task.done()
    assert session.problem == ""


async def test_after_hanging_up_the_owner_announces_anew(connected):
    _, session, gateway, task = await connected()
    await until(lambda: gateway.announced == 1 and session.problem == "")
    session.hang_up("no ack")
    await until(lambda: gateway.announced == 2 or task.done())
    assert gateway.announced == 2
    assert not task.done()


async def test_a_session_that_was_hung_up_can_still_be_ended(connected):
    _, session, gateway, task = await connected()
    await until(lambda: gateway.announced == 1 and session.problem == "")
    session.hang_up("no ack")
    task.cancel()
    await until(task.done)
    assert task.cancelled()


async def test_whoever_asks_a_gateway_while_its_session_is_ended_has_no_answer_and_is_not_ended_with_it(connected):
    """A facility given to another allocator in mid-reading: the loops that read all facilities' states ended silently."""
    _, session, gateway, task = await connected()
    await until(lambda: gateway.announced == 1 and session.problem == "")
    asking = asyncio.create_task(session.read_state())
    await until(lambda: gateway.asked == 1)
    task.cancel()
    await asyncio.wait([asking], timeout=60)
    assert not asking.cancelled()
    assert await asking is None
    assert await session.read_state() is None, "nor later"


async def test_who_asks_can_be_ended(connected):
    _, session, gateway, _ = await connected()
    await until(lambda: gateway.announced == 1 and session.problem == "")
    asking = asyncio.create_task(session.read_state())
    await until(lambda: gateway.asked == 1)
    asking.cancel()
    await until(asking.done)
    assert asking.cancelled()


async def test_certificates_that_can_not_be_used_yet_are_looked_for_again(tmp_path, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.allocator.session.LOOK_AGAIN_S", 0.01)
    tls = ClientTls(*(tmp_path / name for name in ("allocator.crt", "allocator.key", "ca.crt")))
    lost = []
    handlers = Handlers(lambda _: None, lambda _: None, lambda _: None, lost.append, never)
    session = GatewaySession("f", "127.0.0.1:1", handlers, tls=tls)
    task = asyncio.create_task(session.run())
    await until(lambda: "no certificate can be read" in session.problem)
    make_authority(tmp_path)
    issue(tmp_path, "allocator", role="allocator")
    await until(lambda: lost)  # the address is dialled now
    assert "no certificate" not in session.problem
    task.cancel()
    await until(task.done)


async def never():
    raise CannotAnnounceError("not now")
