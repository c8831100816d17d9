"""What gateways tell of settling and of work that stands still, as the owner books it."""

import numpy as np
import pytest

from hcp_pipelines.allocator.leases import Lease
from hcp_pipelines.allocator.returns import Returns, Wiring
from hcp_pipelines.allocator.writer import JournalWriter
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots
from tests.support.desired import BATCH, Desired, Rig

FIRST = Desired(1, tuple(range(0, 60, 2)), priority=90)
WORKS = ("7b4b5a5e-7a55-4f0e-9d3e-0a8f1f5f8c11", "d0a9a0c4-52ab-4a54-8a56-3a4f7d2e9b22")
AT = ("2025-01-01T12:00:00+00:00", "2025-01-01T13:00:00+00:00")


async def _nowhere(_batch):
    """Nobody reads what is written."""


@pytest.fixture
def rig():
    made = Rig()
    made.arrive(made.plan())
    made.writer = JournalWriter(_nowhere, "test")
    wiring = Wiring("test", made.clock, made.writer, lambda: None)
    made.returns = Returns(made.owner, Lease(made.site.facility_id, 1, float("inf")), wiring)
    return made


def said(rig):
    return [(one.desired_state_id, one.state) for one in rig.writer.batch.desired]


def test_a_row_is_settled_in_the_books_once_its_last_device_is(rig):
    wave = rig.desire(FIRST)
    rig.news()
    rig.acknowledge(wave)
    [move] = [move for move in wave.plan.moves if move.to_state == BATCH]
    for seq, some in enumerate((move.slots[:-1], move.slots[-1:]), start=1):
        assert said(rig) == []
        rig.returns.take_settled(pb.Settled(seq=seq, command_id="c", settled=encode_slots(some)))
    assert said(rig) == [(1, "settled")]


def test_devices_that_were_busy_are_told_again_and_nothing_is_held_against_them(rig):
    rig.arrive(rig.desire(FIRST))
    busy, bad = (np.array([rig.first + n], dtype=np.uint32) for n in FIRST.slots[:2])

    def settle(failed):
        for seq in range(1, 4):
            told = pb.Settled(seq=seq, command_id="c", failed=encode_slots(failed), not_now=encode_slots(busy))
            rig.returns.take_settled(told)
        return rig.owner.memory()["quarantined_slots"]

    assert settle(busy) == []
    rig.owner.ask()
    assert [m.slots.tolist() for m in rig.plan().plan.moves if m.to_state == BATCH] == [busy.tolist()]
    assert settle(np.union1d(busy, bad)) == bad.tolist()


def test_a_gateways_new_log_is_not_taken_for_the_one_before_and_what_is_told_twice_is_one(rig):
    entries = [(1, AT[0], WORKS[0]), (1, AT[1], WORKS[0]), (1, AT[1], WORKS[1]), (2, AT[1], WORKS[1])]
    for seq, at, work in [*entries, entries[0]]:
        rig.returns.take_saved(
            pb.Saved(
                seq=seq, workload_id=work, simulated_at=at, slots=encode_slots(np.array([rig.first], dtype=np.uint32))
            )
        )
    ids = [one.event_id for one in rig.writer.batch.saved]
    assert (len(set(ids[:4])), ids[4]) == (4, ids[0])
    for at in AT:
        rig.returns.take_local(
            pb.LocalEvent(seq=3, kind="lockout", simulated_at=at, slots=encode_slots(np.array([0], dtype=np.uint32)))
        )
    first, second = rig.writer.batch.observations
    assert first.event_id != second.event_id
