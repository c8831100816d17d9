"""Whatever rows come, go and change hands: in the end each slot runs its own row's work, and no command says anything twice."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.policy.desired import DesiredRows, assigned_to, with_work
from hcp_pipelines.policy.ramps import UNLIMITED
from hcp_pipelines.policy.waves import WORKS_AT_ONCE, FacilityShape, Pool, plan_wave
from hcp_pipelines.wire.slots import decode_slots
from hcp_pipelines.wire.work import key_of
from tests.support.desired import BATCH, IDLE, Desired, Rig, works_of

SIZE = 12  # of the slots that rows are about: few, so that they meet
IN_FORCE = Rig().owner.in_force  # the same for all: it is long in the making
ACCEPTED, DEFERRED, UNANSWERED = range(3)


@st.composite
def rows_at_once(draw):
    """Rows of some workloads over slots that are each one row's at most."""
    owner = draw(st.lists(st.integers(-1, 3), min_size=SIZE, max_size=SIZE))
    found = []
    for n in sorted({o for o in owner if o >= 0}):
        slots = tuple(k for k, o in enumerate(owner) if o == n)
        epoch = draw(st.integers(0, 1))  # a row of the same work anew: it goes on
        found.append(Desired(10 * n + epoch + 1, slots, priority=90 - n, workload=f"w{n}"))
    return found


class Gateway:
    """What a gateway was told, absolute as it comes; and that it is never told what it was told already."""

    def __init__(self, rig):
        self.rig, self.states, self.works = rig, rig.states.copy(), np.zeros(100, dtype=np.int64)

    def take(self, wave, answer):
        """Take a wave on, or not."""
        for move, told in zip(wave.plan.moves, wave.command.assignments, strict=True):
            slots = decode_slots(told.slots, 600).astype(int) - self.rig.first
            if (slots < 0).any():
                continue
            key = key_of(told.work.workload_id)
            is_known = (self.states[slots] == told.state) & ((key == 0) | (self.works[slots] == key))
            assert not is_known.any(), "said twice"
            if answer == ACCEPTED:
                self.states[slots], self.works[slots] = told.state, key
                self.rig.owner.devices.taken_on(move.slots, move.to_state, move.work)
            elif answer == DEFERRED:
                devices, now_s = self.rig.owner.devices, self.rig.clock.monotonic_s()
                devices.put_back(move.slots, move.to_state, now_s, 5.0, move.work)
        self.rig.owner.settle_work()

    def announce(self, epoch):
        """A new owner, who knows what the gateway says."""
        before, states, works = self.rig, np.concatenate([self.rig.owner.devices.states[:500], self.states]), self.works
        told = np.concatenate([np.zeros(500, dtype=np.int64), works])
        self.rig = Rig(
            memory=before.owner.memory(), states=states, works=told, clock=before.clock, epoch=epoch, in_force=IN_FORCE
        )
        self.rig.book = before.book


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(rows_at_once(), st.sampled_from((ACCEPTED, DEFERRED, UNANSWERED)), st.booleans()), max_size=6)
)
def test_in_the_end_each_slot_runs_its_own_rows_work_and_nothing_is_sent_twice(story):
    gateway, rows = Gateway(Rig(in_force=IN_FORCE)), []
    for n, (rows, answer, changes_hands) in enumerate(story):
        wave = gateway.rig.desire(*rows)
        if wave is not None:
            gateway.take(wave, answer)
        if changes_hands or answer == UNANSWERED:  # what was not answered never arrived: a session ended
            gateway.announce(n + 2)
    gateway.rig.desire(*rows)
    gateway.announce(99)
    gateway.rig.clock.advance(10.0)
    wave = gateway.rig.desire(*rows)
    for _ in range(5):
        if wave is None:
            break
        gateway.take(wave, ACCEPTED)
        gateway.rig.owner.ask()
        wave = gateway.rig.plan()
    assert wave is None, "it is done, and not sent for ever"
    wanted = works_of(*rows, first=0, devices=100)
    assert (gateway.works[wanted != 0] == wanted[wanted != 0]).all()
    assert (gateway.works[wanted == 0] == 0).all(), "no other slot runs anybody's"
    assert (gateway.states == np.where(wanted != 0, BATCH, IDLE)).all()
    assert {state for _, state in gateway.rig.news()} <= {"holding", "settled"}


def test_more_work_than_a_wave_has_place_for_follows_in_the_next_and_reductions_do_not_wait():
    size, rest = WORKS_AT_ONCE + 70, 10
    power = np.zeros((1, STATE_COUNT))
    power[0, BATCH] = 0.001
    shape = FacilityShape("x", 1, ("g",), ("f",), ((IDLE, BATCH),), np.zeros(size + rest, dtype=np.int64), power)
    one_each = np.arange(size)
    rows = DesiredRows(
        one_each,
        one_each * 0,
        np.full(size, BATCH),
        np.ones(size, dtype=np.int64),
        one_each.astype(np.uint32),
        one_each + 1,
    )
    states = np.repeat(np.array([IDLE, BATCH], dtype=np.uint8), (size, rest))
    works, waves = np.zeros(size + rest, dtype=np.int64), []
    for _ in range(2):
        pool = Pool(shape, states, np.ones(size + rest, dtype=bool), works=works)
        assigned = with_work(assigned_to(shape, (0,), rows, np.ones(size, dtype=bool)), rows)
        waves.append(plan_wave(pool.with_assigned(assigned), pool.counts, UNLIMITED, np.random.default_rng(1)))
        for move in waves[-1].moves:
            states[move.slots], works[move.slots] = move.to_state, move.work
    assert [sum(move.work != 0 for move in wave.moves) for wave in waves] == [WORKS_AT_ONCE, 70]
    assert [wave.has_left for wave in waves] == [True, False]
    assert [m.slots.tolist() for m in waves[0].moves[:2]] == [list(range(size, size + rest)), [0]], (
        "then the first in line"
    )
    assert works.tolist() == [*range(1, size + 1), *[0] * rest]
