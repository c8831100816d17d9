"""Switches of what runs at the gateway: on the wire, in the log and its snapshot, and how they settle. Pure."""

from dataclasses import replace

import numpy as np
import pytest

from hcp_pipelines.devices.gpu_node.steps import AT_WORK, START, steps_to, switched_together, warm_state
from hcp_pipelines.devices.gpu_node.values import GpuStatus, WorkloadSpec
from hcp_pipelines.devices.switches import BAD_ONES_KEPT, Outcome, Phase, Stage, Switch, SwitchBook
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import DeviceReplyError, NotNowError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.checks import check_command
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.recovery import recover
from hcp_pipelines.edge.settling import Pending
from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.edge.switches import LoggedSwitches, switch_message, switch_of, work_in, work_message
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import EMPTY, encode_slots

BATCH, TRAINING = DeviceState.INFERENCE_BATCH, DeviceState.TRAINING
COMMAND = "6f1c0f5e-8f0e-4a44-9a34-b5b1c4c7d1f0"
SWITCH = Switch(
    COMMAND, 2, "10.1.0.9", (3, 4), BATCH, WorkloadSpec("llama", 140.0, "streamed", 2, "job-1"), (3,), TRAINING,
    WorkloadSpec("mine", 20.0, "cold", 1, "job-2", "s3://ckpt/7"), Stage.ROLL_BACK, None,
    {Phase.PAUSE: 1.5, Phase.START: 2.5}, {Phase.PAUSE: 800.0}, 12.5, "why",
)  # fmt: skip


def shape():
    ladder = [{"state": s, "power_kw": kw, "settle_s": 10} for s, kw in ((1, 0.4), (5, 1.25), (6, 1.3))]
    group = {"group_id": "g", "feeder_id": "f", "first_slot": 0, "devices": 8, "pue": 1.1, "ladder": ladder}
    driver = {"kind": "bulk", "address": "unix:/b", "site": "s"}
    return SiteShape.of(
        FacilityConfig.model_validate({"facility_id": "one", "generation": 1, "driver": driver, "groups": [group]})
    )


def entries(*parts):
    made = [("baseline", pb.FacilityState(generation=1, layout=shape().layout, states=bytes([1] * 8))), *parts]
    return [pb.LogEntry(seq=n, kind=kind, payload=m.SerializeToString()) for n, (kind, m) in enumerate(made, start=1)]


def over(switch, outcome):
    return replace(switch, stage=Stage.OVER, outcome=outcome)


@pytest.mark.parametrize("switch", [SWITCH, over(SWITCH, Outcome.STUCK)])
def test_a_switch_comes_back_from_the_wire_as_it_was(switch):
    message = pb.Switch.FromString(switch_message(switch).SerializeToString())
    assert switch_of(message, 8) == switch
    assert (message.phases.HasField("switch_ms"), message.success) == (False, False)


def test_the_log_says_which_switches_are_under_way_and_which_went_wrong():
    bad = over(SWITCH, Outcome.RESTED)
    for last, expected in ((SWITCH, [SWITCH]), (bad, [bad]), (over(SWITCH, Outcome.SWITCHED), [])):
        known = recover(entries(("switch", switch_message(SWITCH)), ("switch", switch_message(last))), shape())
        assert list(known.switches) == expected
    assert known.switches.find(SWITCH.key) is None


def test_a_snapshot_has_them_and_another_layout_forgets_them():
    state = pb.FacilityState(generation=1, layout=shape().layout, states=bytes([1] * 8))
    snapshot = pb.Snapshot(state=state, switches=[switch_message(SWITCH)])
    assert list(recover(entries(("snapshot", snapshot)), shape()).switches) == [SWITCH]
    snapshot.state.layout, snapshot.state.generation = "another", 9
    assert list(recover(entries(("snapshot", snapshot)), shape()).switches) == []


def test_work_that_a_command_names_is_driven_again_with_what_has_not_settled():
    slots = encode_slots(np.array([3, 4], dtype=np.uint32))
    work = pb.Work(workload_id="job-2", model="mine", weights_gib=20, gpus_each=2, load="streamed", checkpoint="c")
    command = pb.Command(command_id=COMMAND, assignments=[pb.Assignment(index=2, state=6, slots=slots, work=work)])
    ack = pb.Ack(command_id=COMMAND, assignments=[pb.AssignmentAck(index=2, accepted=slots)])
    known = recover(entries(("command", command), ("ack", ack)), shape())
    assert known.unfinished[COMMAND, 2].work == work_in(command.assignments[0])
    assert work_message(known.unfinished[COMMAND, 2].work) == work


@pytest.mark.parametrize(
    "work",
    [
        pb.Work(model="m" * 101),
        pb.Work(model="a\nb"),
        pb.Work(workload_id="a b"),
        pb.Work(weights_gib=float("nan")),
        pb.Work(weights_gib=-1),
        pb.Work(gpus_each=9),
        pb.Work(load="hot"),
        pb.Work(checkpoint="c" * 501),
    ],
)
def test_work_that_makes_no_sense_is_refused_and_named(work):
    assignment = pb.Assignment(index=0, state=6, slots=encode_slots(np.array([3], dtype=np.uint32)), work=work)
    command = pb.Command(command_id=COMMAND, facility_id="one", epoch=1, generation=1, assignments=[assignment])
    refusal, detail = check_command(command, shape(), 1)
    assert refusal == "bad_message"
    assert detail.startswith("work.")


async def test_what_the_disk_refuses_changes_nothing():
    class Full:
        def reserve(self):
            return 1

        async def append(self, entries):
            raise OSError("full")

    book = LoggedSwitches(Full(), SystemClock(), SwitchBook())
    with pytest.raises(OSError, match="full"):
        await book.keep(SWITCH)
    assert (list(book), book.is_storing) == ([], False)


def test_a_book_keeps_a_bounded_number_of_failures():
    book = SwitchBook()
    for n in range(BAD_ONES_KEPT + 5):
        book.take(over(replace(SWITCH, index=n), Outcome.RESTED))
    assert len(list(book)) == BAD_ONES_KEPT
    assert book.failed_of(COMMAND, BAD_ONES_KEPT + 4) == {3, 4}
    assert (book.find(SWITCH.key), book.failed_of(COMMAND, 0)) == (None, frozenset()), "the oldest"


def test_a_book_forgets_what_went_wrong_with_what_is_decided():
    book, kept, gone = SwitchBook(), replace(SWITCH, index=1), replace(SWITCH, index=2)
    for switch in (kept, gone):
        book.take(over(switch, Outcome.STUCK))
        book.note_unfit(COMMAND, switch.index, [4], "does not fit")
        book.give_up(COMMAND, switch.index, {5: NotNowError("busy"), 6: DeviceReplyError("no")})
    book.keep_only({(COMMAND, 1)})
    assert [one.key for one in book] == [kept.key]
    assert (book.failed_of(COMMAND, 1), book.unfit_of(COMMAND, 1)) == ({3, 4, 5, 6}, {4: "does not fit"})
    assert book.not_now_of(COMMAND, 1) == {5}
    assert (book.failed_of(COMMAND, 2), book.unfit_of(COMMAND, 2)) == (frozenset(), {})


def test_work_that_looks_alike_settles_only_once_it_was_told():
    pending = Pending("c", 0, 6, np.array([3, 4], dtype=np.uint32), np.array([1.3, 1.3], dtype=np.float32), 100.0, 1)
    newest, alike = np.ones(8, dtype=np.uint32), np.full(8, 1.25, dtype=np.float32)
    pending.begin(10.0)
    pending.hold()
    assert not pending.observe(alike, newest, 20.0), "it draws what it drew before"
    pending.begin(30.0)
    assert not pending.observe(alike, newest, 31.0), "nobody has said that they were told"
    pending.confirm(EMPTY)
    assert not pending.observe(alike, newest, 29.0), "a sample from before"
    pending.give_up(np.array([4], dtype=np.uint32))
    assert pending.observe(alike, newest, 31.0)
    assert (pending.settled[0].tolist(), pending.failed.tolist()) == ([3], [4])


def test_a_miner_settles_while_others_are_still_being_told():
    pending = Pending("c", 0, 3, np.array([3], dtype=np.uint32), np.array([3.5], dtype=np.float32), 100.0, 1)
    pending.begin(10.0)
    pending.hold()
    assert pending.observe(np.full(8, 3.5, dtype=np.float32), np.ones(8, dtype=np.uint32), 20.0)


def gpu(index, name=None, phase=None, cls="inference_batch", work=""):
    gone = (None, None, None) if name is None else (name, cls, phase)
    return GpuStatus(index, f"u{index}", "ok", DeviceState.IDLE, 0.0, 700.0, None, *gone, work=work)


def test_gpus_that_share_a_copy_old_or_new_are_switched_together():
    at_work = {0: gpu(0, "a", "running"), 1: gpu(1, "a", "running"), 2: gpu(2, "b", "running"), 3: gpu(3)}
    assert switched_together({n: at_work[n] for n in range(3)}, 1) == [(0, 1), (2,)]
    assert switched_together(at_work, 4) == [(0, 1, 2, 3)]
    steps = {step.name: step.gpus for step in steps_to(TRAINING, list(at_work.values()), 4)}
    assert steps == {AT_WORK: (0, 1, 2, 3)}
    steps = {step.name: step.gpus for step in steps_to(TRAINING, list(at_work.values()), 1)}
    assert steps == {AT_WORK: (0, 1, 2), START: (3,)}


def test_somebody_elses_work_of_the_same_class_is_other_work():
    running = [gpu(0, "a", "running", work="job-1"), gpu(1, "b", "paused", work="job-1")]
    assert [step.name for step in steps_to(BATCH, running, 1)] == ["nothing", "resume"]
    assert [step.name for step in steps_to(BATCH, running, 1, "job-1")] == ["nothing", "resume"]
    assert [step.name for step in steps_to(BATCH, running, 1, "job-2")] == [AT_WORK, START]
    assert (warm_state(running[0]), warm_state(running[1])) == (None, BATCH)
