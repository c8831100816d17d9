"""The gateway over real sockets, with simulated devices behind it. What they did is judged by their own log."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import uuid
from pathlib import Path

import grpc
import numpy as np
import pytest
from prometheus_client import REGISTRY

from hcp_pipelines.edge.log_files import read_log
from hcp_pipelines.runtime.spans import platform_name
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots
from tests.support.edge import (
    BATCH,
    ECO,
    FIRST_GPU,
    FULL,
    MINERS,
    OFF,
    PUE,
    SLOTS,
    Gateway,
    GatewayProcess,
    Owner,
    World,
    bits,
    until,
)


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def running(folder):
    """Hands out worlds, gateways, processes and owners, and ends them whatever happens."""
    async with contextlib.AsyncExitStack() as stack:
        yield _Running(folder, stack)


class _Running:
    def __init__(self, folder, stack) -> None:
        self.folder, self._stack = folder, stack

    async def world(self, **options) -> World:
        world = World(self.folder, **options)
        await world.start()
        self._stack.push_async_callback(_quietly, world.kill)
        return world

    async def gateway(self, world, *, is_connected=True, **changes) -> Gateway:
        gateway = Gateway(self.folder, world, **changes)
        await gateway.start(is_connected=is_connected)
        self._stack.push_async_callback(_quietly, gateway.stop)
        return gateway

    async def process(self, **changes) -> GatewayProcess:
        gateway = GatewayProcess(self.folder, **changes)
        await gateway.start()
        self._stack.callback(lambda: gateway.process.poll() is None and gateway.end(signal.SIGKILL))
        return gateway

    def owner(self, gateway, **options) -> Owner:
        owner = Owner(gateway.address, **options)
        self._stack.push_async_callback(owner.leave)
        return owner

    async def all(self, **changes):
        world = await self.world()
        gateway = await self.gateway(world, **changes)
        return world, gateway, await self.owner(gateway).own()


async def _quietly(stop) -> None:
    with contextlib.suppress(OSError):  # stopped by the test already
        await stop()


# -- owners -----------------------------------------------------------------------------------------------------------


async def test_an_announcement_tells_the_state_and_later_ones_need_a_higher_epoch(running):
    world = await running.world()
    gateway = await running.gateway(world)
    first = running.owner(gateway, epoch=5)
    reply = await first.announce()
    assert (reply.accepted, reply.highest_epoch) == (True, 5)
    assert np.frombuffer(reply.state.states, dtype=np.uint8)[:MINERS].tolist() == [OFF] * MINERS
    assert np.frombuffer(reply.state.states, dtype=np.uint8)[MINERS:FIRST_GPU].tolist() == [255] * 10
    for changes, refusal in (
        ({"epoch": 7, "lease_epoch": 6}, "epoch_too_high"),
        ({"epoch": 4}, "old_epoch"),
        ({"epoch": 5}, "old_epoch"),
        ({"epoch": 6, "generation": 2}, "wrong_generation"),
        ({"epoch": 6, "facility_id": "three"}, "unknown_facility"),
        ({"epoch": 0}, "bad_message"),
        ({"epoch": 6, "owner": ""}, "bad_message"),
        ({"epoch": 6, "owner": "x" * 101}, "bad_message"),
        ({"epoch": 6, "platform": "x" * 101}, "bad_message"),
    ):
        got = await running.owner(gateway, name="alloc-b").announce(**changes)
        assert (got.accepted, got.refusal) == (False, refusal), changes
    assert (await first.send(first.make((FULL, [1])))).refusal == ""  # none of them has disturbed the owner
    again = await running.owner(gateway, epoch=5).own()
    await first.ended()
    await running.owner(gateway, name="alloc-b", epoch=6).own(platform="theirs")
    await again.ended()
    assert platform_name() == "theirs"


async def test_a_generation_in_which_devices_only_moved_loses_no_command(running):
    """Restarted with generation 2 while a command of generation 1 is under way: its devices settle, and the owner is told."""
    world = await running.world(speed=30.0)
    gateway = await running.gateway(world)
    old = await running.owner(gateway).own()
    command = old.make((FULL, range(20)))
    assert not (await old.send(command)).refusal
    await gateway.stop()
    assert not old.settled(command.command_id)
    gateway = await running.gateway(world, generation=2)
    new = await running.owner(gateway, name="alloc-b", epoch=2).own(generation=2)
    await until(lambda: new.settled(command.command_id), "settled in the new generation")
    assert bits(new.settled(command.command_id)[0].settled) == list(range(20))
    assert set(world.switched(command.command_id)) == set(range(20))


async def test_once_a_new_owner_is_announced_the_old_one_is_not_obeyed(running):
    world, gateway, old = await running.all()
    new = running.owner(gateway, name="alloc-b", epoch=2)
    command, announced = old.make((FULL, range(50))), asyncio.create_task(new.announce())
    await old.call.write(pb.OwnerMessage(command=command))
    await announced
    await old.ended()
    seen = [e.payload for e in await new.log() if e.kind == "command"]
    told = [a.command_id for a in new.of("ack")]
    assert told == ([command.command_id] if seen else [])  # stored before, then told; or never taken
    order = [e.kind for e in await new.log()]
    assert "command" not in order[len(order) - order[::-1].index("epoch") :]
    assert len(world.switched(command.command_id)) == (50 if seen else 0)


async def test_epochs_never_go_back_however_announcements_cross(running):
    world = await running.world()
    gateway = await running.gateway(world)
    owners = [running.owner(gateway, name=f"alloc-{n}", epoch=n) for n in (3, 5, 4, 2)]
    asked = [asyncio.create_task(asyncio.wait_for(o.announce(), 60)) for o in owners]
    await asyncio.gather(*asked, return_exceptions=True)
    epochs = [pb.Announce.FromString(e.payload).epoch for e in await owners[1].log() if e.kind == "epoch"]
    assert epochs == sorted(epochs)
    assert (await owners[1].state()).highest_epoch == 5
    assert (await owners[1].send(owners[1].make((FULL, [1])))).refusal == ""


# -- commands ---------------------------------------------------------------------------------------------------------


async def test_a_command_is_stored_carried_out_once_and_settled_from_power(running):
    world, _, owner = await running.all()
    before, _ = judged("settled")
    command = owner.make((FULL, range(40)), (ECO, range(40, 60)), (BATCH, range(FIRST_GPU, SLOTS)))
    ack = await owner.send(command)
    assert [bits(a.accepted) for a in ack.assignments] == [
        list(range(40)), list(range(40, 60)), list(range(FIRST_GPU, SLOTS)),
    ]  # fmt: skip
    stored = await owner.log()
    assert [e.kind for e in stored][:4] == ["baseline", "epoch", "command", "ack"]
    assert stored[3].seq == ack.seq
    await until(lambda: len(owner.settled(command.command_id)) == 3, "three assignments settled")
    for settled in owner.settled(command.command_id):
        assert bits(settled.settled) == bits(ack.assignments[settled.index].accepted)
        assert not settled.failed
        assert not settled.superseded
    assert judged("settled")[0] - before == 1
    assert world.switched(command.command_id) == [*range(60), *range(FIRST_GPU, SLOTS)]
    state = await owner.state()
    assert state.unfinished_command_ids == []
    assert state.observed == state.states
    expected_kw = (40 * 3.5 + 20 * 2.8 + 40 * 0.025 + 20 * 1.3) * PUE
    assert state.power_kw == pytest.approx(expected_kw, rel=0.02)  # at the meter, PUE and all


async def test_a_repeated_command_is_answered_from_the_store(running):
    world, _, owner = await running.all()
    command = owner.make((FULL, range(10)))
    first = await owner.send(command)
    second = await owner.send(command)
    assert (first.duplicate, second.duplicate) == (False, True)
    second.duplicate = False
    assert second == first
    assert [e.kind for e in await owner.log()].count("command") == 1
    assert world.switched(command.command_id) == list(range(10))


async def test_what_cannot_be_done_is_refused_by_slot_and_the_sets_add_up(running):
    world, _, owner = await running.all()
    command = owner.make((FULL, [5, 6, 105, FIRST_GPU, 5000]), (BATCH, [FIRST_GPU, 7]))
    ack = await owner.send(command)
    first, second = ack.assignments
    refused = {r.code: bits(r.slots) for r in first.refused}
    assert bits(first.accepted) == [5, 6]
    assert refused == {"unknown_slot": [105, 5000], "state_not_supported": [FIRST_GPU]}
    assert bits(second.accepted) == [FIRST_GPU]
    assert {r.code: bits(r.slots) for r in second.refused} == {"state_not_supported": [7]}
    await until(lambda: world.switched(command.command_id) == [5, 6, FIRST_GPU], "carried out")


GARBAGE = b"\xff" * 30
LYING_BITSET = encode_slots(np.arange(0, 20_000, 2, dtype=np.uint32))[:16] + b"\xff" * 8192


@pytest.mark.parametrize(
    ("refusal", "assignments", "changes"),
    [
        ("old_epoch", ((FULL, [1]),), {"epoch": 0}),
        ("epoch_too_high", ((FULL, [1]),), {"epoch": 2}),
        ("wrong_generation", ((FULL, [1]),), {"generation": 2}),
        ("unknown_facility", ((FULL, [1]),), {"facility_id": "two"}),
        ("bad_message", ((FULL, [1]),), {"command_id": "seven"}),
        ("bad_message", ((FULL, [1]),), {"command_id": str(uuid.UUID(int=7))}),
        ("bad_message", (), {}),
        ("bad_message", ((99, [1]),), {}),
        ("bad_message", ((FULL, GARBAGE),), {}),
        ("bad_message", ((FULL, LYING_BITSET),), {}),
        ("bad_message", ((FULL, [2_000_000]),), {}),
    ],
)
async def test_a_bad_command_is_refused_with_a_reason_and_the_session_goes_on(running, refusal, assignments, changes):
    *_, owner = await running.all()
    ack = await owner.send(owner.make(*assignments, **changes))
    assert (ack.refusal, bool(ack.detail), len(ack.assignments)) == (refusal, True, 0)
    assert [e.kind for e in await owner.log()] == ["baseline", "epoch"]
    assert (await owner.send(owner.make((FULL, [1])))).refusal == ""


async def test_an_index_that_devices_cannot_be_told_is_refused_rather_than_stored(running):
    """Stored, it would have ended the gateway at each start."""
    *_, owner = await running.all()
    command = owner.make((FULL, [1]), (OFF, [2]))
    command.assignments[1].index = 70_000
    assert (await owner.send(command)).refusal == "bad_message"
    command.assignments[1].index = 0
    assert (await owner.send(command)).refusal == "bad_message"


async def test_bad_openings_end_their_own_session_and_nobody_elses(running):
    _, gateway, owner = await running.all()
    other = await running.owner(gateway, facility="two").own()
    for opening in (
        pb.OwnerMessage(),
        pb.OwnerMessage(command=owner.make((FULL, [1]))),
        pb.OwnerMessage(announce=pb.Announce()),
    ):
        call = owner.stub.Session()
        await call.write(opening)
        reply = (await call.read()).announce_reply
        assert (reply.accepted, reply.refusal) == (False, "bad_message")
        assert await call.read() is grpc.aio.EOF
    async with grpc.aio.insecure_channel(gateway.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        raw = channel.stream_stream(
            "/hcp.edge.v1.EdgeGateway/Session", request_serializer=bytes, response_deserializer=bytes
        )
        for blob, codes in ((b"\x0a" * 7, None), (b"\x00" * (17 * 1024 * 1024), {grpc.StatusCode.RESOURCE_EXHAUSTED})):
            call = raw()
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(blob)
                assert await call.read() is grpc.aio.EOF
            assert codes is None or await call.code() in codes
    await owner.call.write(pb.OwnerMessage())
    assert (await owner.send(owner.make((FULL, [1])))).refusal == ""
    assert (await other.send(other.make((FULL, [1])))).refusal == ""
    with pytest.raises(grpc.aio.AioRpcError, match="is not behind this gateway: one, two"):
        await owner.stub.Read(pb.ReadRequest(facility_id="three"))


async def test_superseded_devices_are_told_apart_from_settled_and_failed_ones(running):
    *_, owner = await running.all()
    first, second = owner.make((FULL, range(20))), owner.make((OFF, range(10)))
    await owner.send(first)
    await owner.send(second)
    await until(lambda: owner.settled(first.command_id) and owner.settled(second.command_id), "both settled")
    (settled,) = owner.settled(first.command_id)
    assert (bits(settled.superseded), bits(settled.settled)) == (list(range(10)), list(range(10, 20)))


async def test_devices_that_do_not_obey_fail_after_their_time_and_not_before(running):
    world, _, owner = await running.all()
    world.fleet.sites["one"]._tables.power_w[FULL, :5] = 900.0  # they say yes and draw little
    before, before_s = judged("failed")
    command = owner.make((FULL, range(20)))
    ack = await owner.send(command)
    await until(lambda: owner.settled(command.command_id), "judged")
    (settled,) = owner.settled(command.command_id)
    assert (bits(settled.failed), bits(settled.settled)) == (list(range(5)), list(range(5, 20)))
    after, after_s = judged("failed")
    assert (after - before, after_s - before_s >= 60.0) == (1, True), "they have sixty seconds to settle"
    commanded = next(e for e in await owner.log() if e.seq == ack.seq)
    assert commanded.kind == "ack"


def judged(result, to_state="mining_full"):
    """How many switches were judged so, and the simulated seconds that they took together."""
    labels = {"facility_id": "one", "to_state": to_state, "result": result}
    names = (f"hcp_edge_switch_simulated_seconds_{part}" for part in ("count", "sum"))
    return tuple(REGISTRY.get_sample_value(name, labels) or 0.0 for name in names)


# -- what goes wrong around it ----------------------------------------------------------------------------------------


async def test_a_stream_that_ends_while_a_command_is_stored_leaves_no_ack_without_a_switch(running):
    world, gateway, owner = await running.all()
    commands = [owner.make((FULL, [n])) for n in range(20)]
    for command in commands:
        await owner.call.write(pb.OwnerMessage(command=command))
    owner.call.cancel()
    successor = await running.owner(gateway, epoch=1).own()
    acked = {a.command_id for a in successor.of("ack")}
    await until(lambda: all(world.switched(c) for c in acked), "every acked command reached its devices")
    assert {c.command_id for c in commands if world.switched(c.command_id)} == acked
    assert set(np.flatnonzero(gateway.facilities["one"].states[:20] == FULL)) == {
        n for n, c in enumerate(commands) if c.command_id in acked
    }


async def test_a_new_owner_is_told_what_it_missed_and_then_that_this_was_all(running):
    _, gateway, owner = await running.all()
    command = owner.make((FULL, range(10)))
    ack = await owner.send(command)
    await until(lambda: owner.settled(command.command_id), "settled")
    settled = owner.settled(command.command_id)[0]
    successor = await running.owner(gateway, name="alloc-b", epoch=2).own(resume_after_seq=0)
    assert successor.of("ack") == [ack]
    assert successor.of("settled") == [settled]
    assert successor.messages[-1].local_event.kind == "resumed"
    assert successor.messages[-1].local_event.seq == max(e.seq for e in await successor.log())
    third = await running.owner(gateway, name="alloc-c", epoch=3).own(resume_after_seq=ack.seq)
    assert (third.of("ack"), third.of("settled")) == ([], [settled])
    beyond = await running.owner(gateway, name="alloc-d", epoch=4).own(resume_after_seq=10_000)
    assert beyond.of("ack") == [ack]  # the log never had that number: all is told


async def test_a_long_replay_reaches_an_owner_through_a_small_outbox(running, monkeypatch):
    _, gateway, owner = await running.all()
    for n in range(40):
        await owner.send(owner.make((FULL, [n])))
    monkeypatch.setattr("hcp_pipelines.edge.outbox.Outbox.__init__.__defaults__", (8,))
    successor = await running.owner(gateway, name="alloc-b", epoch=2).own()
    seqs = [a.seq for a in successor.of("ack")]
    assert len(seqs) == 40
    assert seqs == sorted(seqs)


async def test_without_the_site_commands_are_deferred_and_nothing_is_claimed_to_be_seen(running):
    world = await running.world()
    gateway = await running.gateway(world)
    owner = await running.owner(gateway).own()
    await world.kill()
    await until(lambda: gateway.facilities["one"].problem, "the loss is noticed")
    command = owner.make((FULL, range(10)))
    ack = await owner.send(command)
    assert (bits(ack.assignments[0].deferred), ack.assignments[0].accepted) == (list(range(10)), b"")
    state = await owner.state()
    assert set(state.observed) == {255}
    assert state.reachable == b""
    await world.start()
    await until(lambda: not gateway.facilities["one"].problem, "connected again")
    assert world.switched(command.command_id) == []


async def test_a_world_that_restarts_is_driven_again_with_full_time_and_nothing_doubled(running):
    world, gateway, owner = await running.all()
    for facility in gateway.facilities.values():
        facility.shape.settle_s[:] = 1200.0  # two real seconds: longer than what the devices need after the restart
    command = owner.make((FULL, range(30)))
    await owner.send(command)
    await world.kill()
    await asyncio.sleep(0.3)
    await world.start()
    await until(lambda: owner.settled(command.command_id), "settled after the restart")
    (settled,) = owner.settled(command.command_id)
    assert bits(settled.settled) == list(range(30))
    assert world.switched(command.command_id) == list(range(30))


async def test_a_site_that_hangs_is_given_up_and_taken_back(running, monkeypatch):
    monkeypatch.setattr("hcp_pipelines.edge.driving.SILENT_AFTER_S", 0.5)
    world, gateway, owner = await running.all()
    pushes = monkeypatch.setattr  # the site stays connected and says nothing more
    pushes("simulators.bulk._Connection._push_readings", _nothing)
    await world.kill()
    await world.start()
    await until(lambda: "told no power" in gateway.facilities["one"].problem, "silence is noticed")
    monkeypatch.undo()
    await until(lambda: not gateway.facilities["one"].problem, "taken back")
    assert (await owner.send(owner.make((FULL, [1])))).refusal == ""


async def _nothing(*_) -> None:
    await asyncio.sleep(3600)


async def test_an_owner_that_goes_silent_is_followed_by_the_fallback_plan(running):
    world, gateway, owner = await running.all(fallback_after_s=900.0)
    command = owner.make((FULL, range(30)), (BATCH, [FIRST_GPU]))
    await owner.send(command)
    for _ in range(4):
        await asyncio.sleep(0.5)
        await owner.call.write(pb.OwnerMessage(heartbeat=pb.Heartbeat(epoch=1)))
    assert not [e for e in await owner.log() if e.kind == "local"]
    await until(lambda: not world.commanded()[:MINERS].any(), "fallback taken")
    assert world.commanded()[FIRST_GPU] == BATCH  # the plan does not speak of it
    await until(lambda: [e for e in gateway.facilities["one"].log_entries(0, 99) if e.kind == "settled"][2:], "judged")
    successor = await running.owner(gateway, name="alloc-b", epoch=2).own()
    fallback, resumed = successor.of("local_event")
    assert (fallback.kind, fallback.state, fallback.reason) == ("fallback", OFF, "fallback_plan")
    assert bits(fallback.slots) == list(range(30))
    assert resumed.kind == "resumed"
    assert {s.command_id for s in successor.of("settled")} == {command.command_id}


async def test_a_fallback_taken_without_the_site_reaches_it_later(running):
    world, gateway, owner = await running.all(fallback_after_s=600.0)
    await owner.send(owner.make((FULL, range(30))))
    await until(lambda: len(world.log()) == 1, "carried out")
    await world.kill()
    await until(lambda: [e for e in gateway.facilities["one"].log_entries(0, 99) if e.kind == "local"], "fallback")
    await world.start()
    await until(lambda: not world.commanded()[:MINERS].any(), "the devices are told")


async def test_a_full_disk_is_a_reason_and_not_the_end(running, monkeypatch):
    world, gateway, owner = await running.all()
    command = owner.make((FULL, range(10)))
    await owner.send(command)
    monkeypatch.setattr(os, "fdatasync", _no_space)
    refused = await owner.send(owner.make((OFF, range(10))))
    assert (refused.refusal, "No space" in refused.detail) == ("store_failed", True)
    late = await running.owner(gateway, name="alloc-b", epoch=2).announce()
    assert (late.accepted, late.refusal) == (False, "store_failed")
    assert owner.settled(command.command_id) == []
    monkeypatch.undo()
    again = await running.owner(gateway, name="alloc-b", epoch=2).own()
    await until(lambda: again.settled(command.command_id), "judged and stored when there was room again")
    assert (world.commanded()[:10] == FULL).all()
    seqs = [e.seq for e in await again.log()]
    assert seqs == sorted(set(seqs))


async def test_a_command_that_the_disk_refused_is_over_and_is_not_carried_out_when_it_comes_again(running, monkeypatch):
    world, _, owner = await running.all()
    await owner.send(owner.make((FULL, range(10))))
    command = owner.make((OFF, range(10)))
    with monkeypatch.context() as full:
        full.setattr(os, "fdatasync", _no_space)
        assert (await owner.send(command)).refusal == "store_failed"
    again = await owner.send(command)
    assert (again.refusal, again.duplicate) == ("store_failed", True)
    assert world.switched(command.command_id) == []
    assert [e.kind for e in await owner.log() if e.kind != "settled"].count("command") == 1


def _no_space(_) -> None:
    raise OSError(28, "No space left on device")


# -- the process ------------------------------------------------------------------------------------------------------


async def test_kill_9_after_an_ack_loses_nothing_and_doubles_nothing(running):
    world = await running.world(speed=60.0)
    gateway = await running.process()
    owner = await running.owner(gateway).own()
    command = owner.make((FULL, range(50)), (BATCH, range(FIRST_GPU, SLOTS)))
    ack = await owner.send(command)
    gateway.end(signal.SIGKILL)
    stored = read_log(running.folder / "edge" / "one")
    assert [e.kind for e in stored][-2:] == ["command", "ack"]
    assert pb.Ack.FromString(stored[-1].payload) == ack
    with (running.folder / "edge" / "one" / "log.bin").open("ab") as file:
        file.write(b"\x40\x00\x00\x00torn")
    await gateway.start()
    refused = await running.owner(gateway, name="alloc-z").announce(epoch=1)
    assert refused.refusal == "old_epoch"  # the epoch and its owner outlived the process
    successor = await running.owner(gateway, name="alloc-b", epoch=2).own(resume_after_seq=ack.seq)
    assert (await successor.send(command_again(successor, command))).duplicate
    await until(lambda: len(successor.settled(command.command_id)) == 2, "driven again and settled")
    assert world.switched(command.command_id) == [*range(50), *range(FIRST_GPU, SLOTS)]
    seqs = [e.seq for e in await successor.log()]
    assert seqs == list(range(1, len(seqs) + 1))  # the torn tail is gone
    assert gateway.end() == 0


def command_again(owner, command) -> pb.Command:
    again = pb.Command.FromString(command.SerializeToString())
    again.epoch = owner.epoch
    return again


async def test_a_second_gateway_on_the_same_facility_is_refused_and_the_first_goes_on(running):
    await running.world()
    gateway = await running.process(names=("one",))
    for name, why in (("edge", "another gateway of this name runs"), ("other", "another gateway serves this facility")):
        second = GatewayProcess(running.folder, names=("one",), gateway=name).spawn()
        output, _ = await asyncio.to_thread(second.communicate, timeout=60)
        assert second.returncode == 1
        assert why in output
        assert "Traceback" not in output
    owner = await running.owner(gateway).own()
    assert (await owner.send(owner.make((FULL, [1])))).refusal == ""
    assert gateway.end() == 0


async def test_a_socket_that_somebody_answers_on_is_not_taken_away(running):
    await running.world()
    gateway = await running.process(names=("one",))
    other = GatewayProcess(running.folder, names=("two",), gateway="other")
    second = other.spawn()
    output, _ = await asyncio.to_thread(second.communicate, timeout=60)
    assert second.returncode == 1
    assert "another gateway answers on" in output
    owner = await running.owner(gateway).own()
    assert (await owner.send(owner.make((FULL, [1])))).refusal == ""
    assert gateway.end() == 0
