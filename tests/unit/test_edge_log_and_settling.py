"""What a restart makes of a durable log, judging by power, and the outbox. The log itself: test_edge_durable_log.py."""

import tracemalloc
import uuid

import numpy as np
import pytest

from hcp_pipelines.devices.switches import Saved, SwitchBook
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.edge.acks import Acks
from hcp_pipelines.edge.checks import judge
from hcp_pipelines.edge.config import FacilityConfig, load_edge_config
from hcp_pipelines.edge.messages import message_of, settled_message
from hcp_pipelines.edge.outbox import Outbox
from hcp_pipelines.edge.recovery import SLOTS_ON_THE_WIRE, local_id, recover
from hcp_pipelines.edge.settling import Pending, joined
from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.edge.switches import LoggedSwitches
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import decode_slots, encode_slots
from hcp_pipelines.wire.work import encode_keys, key_of

OFF, FULL = 0, 3


def facility(generation=1, **changes):
    ladder = [{"state": OFF, "power_kw": 0.025, "settle_s": 20}, {"state": FULL, "power_kw": 3.5, "settle_s": 60}]
    group = {"group_id": "a", "feeder_id": "f1", "first_slot": 2, "devices": 4, "pue": 1.2, "ladder": ladder}
    fields = {"facility_id": "f", "generation": generation, "groups": [group]}
    return FacilityConfig.model_validate(fields | {"driver": {"kind": "bulk", "address": "x", "site": "f"}} | changes)


# -- recovery ---------------------------------------------------------------------------------------------------------


def entries(*messages):
    kinds = {
        pb.Announce: "epoch", pb.FacilityState: "baseline", pb.Command: "command", pb.Ack: "ack",
        pb.Settled: "settled", pb.LocalEvent: "local",
    }  # fmt: skip
    return [pb.LogEntry(seq=n, kind=kinds[type(m)], payload=m.SerializeToString()) for n, m in enumerate(messages, 1)]


def slots(*numbers):
    return encode_slots(np.array(numbers, dtype=np.uint32))


def command(command_id, state, accepted):
    return (
        pb.Command(
            command_id=command_id, generation=1, assignments=[pb.Assignment(index=0, state=state, slots=accepted)]
        ),
        pb.Ack(command_id=command_id, assignments=[pb.AssignmentAck(index=0, accepted=accepted)]),
    )


BASELINE = pb.FacilityState(generation=1, states=bytes([255, 255, OFF, OFF, OFF, OFF]))
ONE, TWO = (str(uuid.UUID(int=n, version=4)) for n in (1, 2))


def test_what_is_acked_and_not_settled_is_unfinished_and_an_unacked_command_never_was():
    lost, _ = command(TWO, FULL, slots(5))
    log = entries(BASELINE, pb.Announce(epoch=4, owner="a"), *command(ONE, FULL, slots(2, 3)), lost)
    known = recover(log, SiteShape.of(facility()))
    assert (known.epoch, known.owner) == (4, "a")
    assert known.states.tolist() == [255, 255, FULL, FULL, OFF, OFF]
    assert list(known.unfinished) == [(ONE, 0)]
    assert (len(known.acks), known.acks.get(TWO)) == (1, None)
    done = recover([*log, *entries(pb.Settled(command_id=ONE, index=0))], SiteShape.of(facility()))
    assert not done.unfinished


def test_a_local_change_is_finished_too():
    event = pb.LocalEvent(seq=2, kind="fallback", state=FULL, slots=slots(4))
    known = recover(entries(BASELINE, event), SiteShape.of(facility()))
    assert known.states[4] == FULL
    assert list(known.unfinished) == [(local_id(2), 0)]


def test_another_generation_starts_from_what_the_devices_do():
    log = entries(BASELINE, pb.Announce(epoch=4, owner="a"), *command(ONE, FULL, slots(2, 3)))
    known = recover(log, SiteShape.of(facility(generation=2)))
    assert set(known.states.tolist()) == {255}
    assert not known.unfinished
    assert known.epoch == 4


def test_a_generation_in_which_devices_only_moved_goes_on_with_what_was_under_way():
    shape = SiteShape.of(facility(generation=2))
    before = pb.FacilityState(generation=1, layout=SiteShape.of(facility()).layout, states=BASELINE.states)
    log = entries(before, *command(ONE, FULL, slots(2, 3)))
    known = recover(log, shape)
    assert known.states.tolist() == [255, 255, FULL, FULL, OFF, OFF]
    assert list(known.unfinished) == [(ONE, 0)]
    seen_later = pb.FacilityState(generation=2, layout=shape.layout, states=known.states.tobytes())
    assert list(recover([*log, *entries(seen_later)], shape).unfinished) == [(ONE, 0)]


def test_a_generation_of_another_layout_does_not():
    before = pb.FacilityState(generation=1, layout=SiteShape.of(facility()).layout, states=BASELINE.states)
    other = facility(generation=2).groups[0].model_copy(update={"devices": 3})
    known = recover(
        entries(before, *command(ONE, FULL, slots(2, 3))), SiteShape.of(facility(generation=2, groups=[other]))
    )
    assert (set(known.states.tolist()), len(known.unfinished)) == ({255}, 0)


def test_only_the_last_acks_are_kept_by_number_and_by_bytes():
    few, small = Acks(most=3), Acks(most_bytes=100)
    for n in range(9):
        few.remember(str(n), b"ack")
        small.remember(str(n), b"x" * 30)
        small.remember(str(n), b"x" * 30)
    assert [few.get(str(n)) is not None for n in range(9)] == [False] * 6 + [True] * 3
    assert [small.get(str(n)) is not None for n in range(9)] == [False] * 6 + [True] * 3


# -- settling ---------------------------------------------------------------------------------------------------------


def pending(state=FULL, allowed_s=60.0, numbers=(0, 1, 2)):
    waiting = np.array(numbers, dtype=np.uint32)
    return Pending("c", 0, state, waiting, np.full(len(waiting), 3.5, dtype=np.float32), allowed_s, number=1)


def sample(*kw):
    return np.array(kw, dtype=np.float32)


def test_each_device_is_judged_once_by_its_own_power():
    newest, waits = np.full(3, 1, dtype=np.uint32), pending()
    waits.begin(1000.0)
    assert not waits.observe(sample(3.4, 1.0, 0.0), newest, 1010.0)
    newest[1] = 2
    assert not waits.observe(sample(0.0, 3.5, 2.0), newest, 1020.0)
    assert waits.observe(sample(0.0, 0.0, 3.6), newest, 1030.0)
    assert joined(waits.settled).tolist() == [0, 2]
    assert joined(waits.superseded).tolist() == [1]
    assert waits.failed.tolist() == []


def test_what_can_not_run_has_failed_at_once_and_it_is_said_that_it_is_not_the_devices():
    pending = Pending("c", 3, 5, np.array([2, 4, 6], dtype=np.uint32), np.full(3, 1.3, dtype=np.float32), 100.0)
    pending.begin(0.0)
    pending.confirm(np.array([2], dtype=np.uint32))
    pending.give_up_work(np.array([2, 6], dtype=np.uint32), "it does not fit")
    pending.give_up_work(np.array([2, 6], dtype=np.uint32), "it does not fit")
    told = settled_message(pending, 1, "")
    assert [decode_slots(part, 10).tolist() for part in (told.failed, told.unfit)] == [[2, 6], [2, 6]]
    assert told.problem == "it does not fit"
    assert pending.waiting.tolist() == [4]


def test_who_could_not_be_told_yet_has_neither_arrived_nor_failed_before_its_deadline():
    pending = Pending("c", 3, 5, np.array([0, 1], dtype=np.uint32), np.full(2, 1.3, dtype=np.float32), 100.0)
    pending.hold()
    pending.told_later = frozenset({1})
    pending.begin(0.0)
    pending.confirm(np.array([1], dtype=np.uint32))
    power_kw, newest = np.full(2, 1.3, dtype=np.float32), np.zeros(2, dtype=np.uint32)
    assert not pending.observe(power_kw, newest, 10.0)
    assert (joined(pending.settled).tolist(), pending.waiting.tolist()) == ([0], [1]), "what it draws is other work's"
    pending.told_later = frozenset()
    assert pending.observe(power_kw, newest, 20.0)
    assert (joined(pending.settled).tolist(), len(pending.failed)) == ([0, 1], 0)


def test_it_fails_on_the_second_sample_after_the_deadline_and_an_interruption_begins_it_anew():
    newest, waits = np.full(3, 1, dtype=np.uint32), pending()
    waits.begin(1000.0)
    low = sample(1.0, 1.0, 1.0)
    assert not any(waits.observe(low, newest, at) for at in (1058.0, 1059.0, 1060.0))
    waits.begin(1061.0)
    assert not any(waits.observe(low, newest, at) for at in (1119.0, 1120.0, 1121.0))
    assert waits.observe(low, newest, 1122.0)
    assert waits.failed.tolist() == [0, 1, 2]


def test_a_sample_that_may_be_older_than_the_command_is_no_arrival():
    newest, waits = np.full(3, 1, dtype=np.uint32), pending()
    waits.begin(1000.0)
    assert not waits.observe(sample(3.5, 3.5, 3.5), newest, 999.0)
    assert joined(waits.settled).tolist() == []
    waits.begin(1020.0)  # the last of them was told only then
    assert waits.observe(sample(3.5, 3.5, 3.5), newest, 1001.0)


def test_power_that_is_no_number_is_not_arrival():
    newest, waits = np.full(3, 1, dtype=np.uint32), pending()
    waits.begin(0.0)
    assert not waits.observe(sample(np.nan, np.inf, 3.5), newest, 1.0)
    assert joined(waits.settled).tolist() == [2]


def test_the_meter_has_the_cooling_and_gaps_draw_nothing():
    shape = SiteShape.of(facility())
    assert shape.meter_kw(sample(0, 0, 1, 1, 1, 1)) == pytest.approx(4.8)
    assert shape.observe(sample(0, 0, 0.02, 3.4, 1.0, 3.0)).tolist() == [255, 255, OFF, FULL, OFF, FULL]


# -- outbox and file --------------------------------------------------------------------------------------------------


def numbered(n):
    return pb.GatewayMessage(settled=pb.Settled(seq=n))


async def test_an_outbox_that_overflows_ends_without_a_gap():
    outbox = Outbox(4)
    for n in range(6):
        outbox.send(numbered(n))
    assert [m async for m in outbox.messages()] == []
    assert outbox.is_closed


async def test_a_closed_outbox_says_what_it_has_and_takes_no_more():
    outbox = Outbox(4)
    outbox.send(numbered(1))
    outbox.close()
    outbox.send(numbered(2))
    assert [m.settled.seq async for m in outbox.messages()] == [1]


async def test_a_reader_that_stalls_loses_its_session(monkeypatch):
    monkeypatch.setattr("hcp_pipelines.edge.outbox.STALLED_AFTER_S", 0.05)
    outbox = Outbox(4)
    for n in range(3):
        await outbox.put(numbered(n))
    assert outbox.is_closed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fallback": {"b": OFF}}, "no group of f"),
        ({"fallback": {"a": 5}}, "not on its ladder"),
        ({"generation": 0}, "greater than 0"),
    ],
)
def test_a_wrong_facility_is_refused_with_its_reason(changes, message):
    with pytest.raises(ValueError, match=message):
        facility(**changes)


def test_a_wrong_file_names_the_place(tmp_path):
    (tmp_path / "site.yaml").write_text("version: 1\ngateway: edge\n")
    with pytest.raises(ConfigError, match=r"site\.yaml: listen: Field required"):
        load_edge_config(tmp_path / "site.yaml")


@pytest.mark.parametrize(("times", "is_taken"), [(1, True), (2, False), (60_000, False)])
def test_few_bytes_that_unpack_to_more_slots_than_there_can_be_are_refused(times, is_taken):
    payload = encode_slots(np.arange(SLOTS_ON_THE_WIRE, dtype=np.uint32))
    assert len(payload) < 500
    command = pb.Command(assignments=[pb.Assignment(index=n, state=FULL, slots=payload) for n in range(times)])
    shape = SiteShape.of(facility())
    if is_taken:
        judge(command, shape, is_ready=True)
        return
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"more than {SLOTS_ON_THE_WIRE} slots in all"):
            judge(command, shape, is_ready=True)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_whose_work_slots_were_told_outlives_a_restart_and_a_snapshot_and_ends_with_the_next_word():
    told, ack = command(ONE, FULL, slots(2, 3))
    told.assignments[0].work.workload_id = "w-1"
    event = pb.LocalEvent(seq=4, kind="fallback", state=OFF, slots=slots(3))
    shape = SiteShape.of(facility())
    assert recover(entries(BASELINE, told, ack), shape).works.tolist() == [0, 0, key_of("w-1"), key_of("w-1"), 0, 0]
    after = recover(entries(BASELINE, told, ack, event), shape)
    assert after.works.tolist() == [0, 0, key_of("w-1"), 0, 0, 0], "what the gateway does by itself is nobody's"
    state = pb.FacilityState(generation=1, layout=shape.layout, states=after.states.tobytes())
    state.at_work, state.work_keys = encode_keys(after.works)
    snapshot = pb.LogEntry(seq=9, kind="snapshot", payload=pb.Snapshot(state=state).SerializeToString())
    assert recover([snapshot], shape).works.tolist() == after.works.tolist()
    silent, yes = command(TWO, FULL, slots(2))
    assert not recover([snapshot, *entries(silent, yes)], shape).works.any(), "a command without work says so"
    ladder = facility().groups[0].model_dump()["ladder"][:1]
    group = facility().groups[0].model_dump() | {"ladder": ladder}
    assert not recover([snapshot], SiteShape.of(facility(generation=2, groups=[group]))).works.any(), (
        "slots are others now"
    )


async def test_that_work_stands_still_is_stored_before_it_is_told():
    class Log:
        """Notes what comes."""

        def __init__(self):
            self.said = []

        def reserve(self):
            return 7

        async def append(self, items):
            self.said += [kind for _, kind, _ in items]

    log = Log()
    book = LoggedSwitches(log, SystemClock(), SwitchBook())
    book.tell = log.said.append
    await book.saved(Saved("w-1", (3, 4), "w-1/at", ""))
    kind, message = log.said
    assert kind == "saved"
    assert (message.saved.seq, message.saved.workload_id, message.saved.checkpoint) == (7, "w-1", "w-1/at")
    assert decode_slots(message.saved.slots, 9).tolist() == [3, 4]
    entry = pb.LogEntry(seq=7, kind="saved", payload=message.saved.SerializeToString())
    assert message_of(entry) == message, "as whoever announces later is told"
