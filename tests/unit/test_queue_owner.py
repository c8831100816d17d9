"""The queue's policy in its owner's hands: the work that is worth least rests at a spike, whole, and comes back after it."""

import pytest

from hcp_pipelines.allocator.decide import InForce
from hcp_pipelines.fleet.solve_sites import site_inputs
from hcp_pipelines.optimizer.inputs import FacilityInputs
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.policy.arrays import compile_policy
from tests.support.desired import BATCH, IDLE, Desired, Rig
from tests.support.fleet import NOON
from tests.support.work import CLASSES, asked, held, job, queue

WELL_PAID, BADLY_PAID, WAITS = set(range(40)), set(range(40, 80)), set(range(80, 88))
PAYS = Desired(1, tuple(sorted(WELL_PAID)), priority=90)
PAYS_LITTLE = Desired(2, tuple(sorted(BADLY_PAID)), priority=10)
COMES = Desired(3, tuple(sorted(WAITS)), priority=50)


@pytest.fixture
def rig():
    """An owner whose policy was made from work that runs, badly and well paid, and from some that waits."""
    made = Rig()
    work = queue(
        *(held(n, facility_id="hou-1", kind=CLASSES[1], gpu_count=40, agreed=rate) for n, rate in ((1, 3.0), (2, 1.0))),
        job(3, CLASSES[1], gpu_count=8),
    )
    one = FacilityInputs(
        site_inputs(made.inventory), 7, NOON, 30.0, made.book.indices, {"power.rt_lmp": 0.0, "btc.usd": 0.0}
    )
    [found] = asked([one], work)
    policy = solve_facility(found)
    made.owner.follow(InForce(2, policy, compile_policy(policy)))
    return made


def settle(rig, wave):
    """Everything is taken on, wave after wave."""
    while wave is not None:
        rig.acknowledge(wave)
        wave = rig.plan()


def test_what_waits_may_begin_and_what_nobody_desires_rests(rig):
    settle(rig, rig.desire(PAYS, PAYS_LITTLE))
    assert rig.at(BATCH) == WELL_PAID | BADLY_PAID
    assert rig.at(IDLE) == set(range(80, 100))
    settle(rig, rig.desire(PAYS, PAYS_LITTLE, COMES))
    assert rig.at(BATCH) == WELL_PAID | BADLY_PAID | WAITS


def test_at_a_spike_the_badly_paid_work_rests_in_the_same_wave_and_comes_back_after_it(rig):
    settle(rig, rig.desire(PAYS, PAYS_LITTLE))
    rig.news()
    wave = rig.tick(1600.0, minutes=15)
    assert rig.at(BATCH) == WELL_PAID
    rig.acknowledge(wave)
    assert (2, "turned_down") in rig.news()
    settle(rig, rig.tick(20.0, minutes=15))
    assert rig.at(BATCH) == WELL_PAID | BADLY_PAID
    settle(rig, rig.tick(9000.0, minutes=15))
    assert rig.at(BATCH) == set()
