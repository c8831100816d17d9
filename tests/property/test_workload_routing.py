"""Packing and routing whatever is free: all or none, near enough, whole nodes kept whole; and who gives way."""

from itertools import combinations
from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hcp_pipelines.domain.modes import STATE_COUNT, DeviceState, ResourceType
from hcp_pipelines.domain.workloads import WorkloadType
from hcp_pipelines.workloads.routing.giving_way import Candidate, give_way
from hcp_pipelines.workloads.routing.needs import Colocation, Need, Place, place_of
from hcp_pipelines.workloads.routing.packing import Free, Topology, pack
from hcp_pipelines.workloads.routing.room import GroupFacts, Market, Room
from hcp_pipelines.workloads.routing.router import Routed, Router, Rules

POWER_KW = {0: 0.1, 1: 0.4, 4: 1.1, 5: 1.3, 6: 1.4}
WORK = {4: WorkloadType.AI_INFERENCE_REALTIME, 5: WorkloadType.AI_INFERENCE_BATCH, 6: WorkloadType.MODEL_TRAINING}


@st.composite
def free_groups(draw):
    island = draw(st.sampled_from((1, 2, 4)))
    topology = Topology.of(island * draw(st.sampled_from((1, 2))), island, draw(st.integers(1, 4)))
    devices = draw(st.integers(1, 60))
    free = np.array(draw(st.lists(st.booleans(), min_size=devices, max_size=devices)), dtype=bool)
    return Free(free, topology)


@given(free_groups(), st.integers(1, 40), st.sampled_from(Colocation))
def test_a_gang_gets_free_devices_near_enough_or_none(room, count, colocation):
    slots, node = pack(room, count, colocation), room.topology.node
    if slots is None:
        assert not _could_be(room, count, colocation)
        return
    assert len(slots) == count == len(set(slots.tolist()))
    assert (np.diff(slots) > 0).all()
    assert room.free[slots].all()
    nodes, used = np.unique(slots // node, return_counts=True)
    if colocation is not Colocation.ANY:
        assert sorted(used)[1:] == [node] * (len(used) - 1) or len(used) == 1
        assert len(nodes) == -(-count // node)
    if colocation is Colocation.RACK:
        assert len(np.unique(nodes // room.topology.rack_nodes)) == 1


def _could_be(room, count, colocation):
    """By trying: is there any way at all?"""
    free, node = room.of_node.tolist(), room.topology.node
    if colocation is Colocation.ANY:
        return sum(free) >= count
    if count <= node:
        return max(free) >= count
    racks = [range(len(free))]
    if colocation is Colocation.RACK:
        each = room.topology.rack_nodes
        racks = [range(first, min(first + each, len(free))) for first in range(0, len(free), each)]
    return any(_in_rack([free[n] for n in rack], count, node) for rack in racks)


def _in_rack(free, count, node):
    whole, rest = divmod(count, node)
    full = sum(n == node for n in free)
    return full >= whole and (not rest or full > whole or any(rest <= n < node for n in free))


@given(free_groups(), st.integers(1, 8))
def test_what_fits_a_broken_node_breaks_no_whole_one(room, count):
    node = room.topology.node
    slots = pack(room, count, Colocation.NODE)
    broken = (room.of_node >= count) & (room.of_node < node)
    if count < node and slots is not None and broken.any():
        chosen = slots[0] // node
        assert room.of_node[chosen] == room.of_node[broken].min()


@given(free_groups(), st.lists(st.integers(0, 59), unique=True, max_size=20))
def test_counts_follow_what_is_taken_and_given(room, some):
    slots = np.array(sorted(n for n in some if n < len(room.free)), dtype=np.int64)
    room.take(slots)
    again = Free(room.free.copy(), room.topology)
    assert (room.count, room.of_node.tolist()) == (again.count, again.of_node.tolist())
    room.give(slots)
    room.give(slots)
    assert room.count == int(room.free.sum()) == int(room.of_node.sum())


def group(name="g", devices=32, **changes):
    facts = {
        "facility_id": "f", "group_id": name, "kind": ResourceType.GPU, "called": "H100", "names": frozenset({"H100"}),
        "memory_gb": 80.0, "topology": Topology.of(8), "devices": devices, "first_slot": 0, "generation": 1, "power_kw": POWER_KW,
        "settlement_point": "HB", "latitude": 30.0, "longitude": -95.0, "regions": frozenset({"tx"}),
    }  # fmt: skip
    return GroupFacts(**(facts | changes))


def market(groups, levels=None, price=30.0, revenue=2.5):
    bounds = np.array([levels or [g.devices] * STATE_COUNT for g in groups], dtype=np.int64)
    earns = np.full((len(groups), STATE_COUNT), revenue)
    return Market(np.full(len(groups), price), earns, bounds, ("",) * len(groups))


def need(number, gpus, work=WorkloadType.MODEL_TRAINING, priority=5, **place):
    asked = {"memory_gb": None, "max_latency_ms": None, "max_usd_per_gpu_hour": None, "colocation": Colocation.NODE}
    return Need(
        UUID(int=number), 1, Place(work, "H100", gpus, **(asked | place)), priority, True, None, 3600.0, None
    )  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(1, 20), st.sampled_from(list(WORK))), max_size=30),
    st.tuples(st.integers(0, 32), st.integers(0, 32), st.integers(0, 32)),
)
def test_no_bound_of_the_ladder_is_passed_and_the_spare_is_left(asked, levels):
    realtime, batch, training = sorted(levels, reverse=True)
    groups = [group("a"), group("b")]
    room = Room(groups, [np.ones(g.devices, dtype=bool) for g in groups])
    bounds = [0, 32, 0, 0, realtime, batch, training]
    router = Router(room, market(groups, bounds), Rules(realtime_spare_fraction=0.1))
    works = np.zeros((2, STATE_COUNT), dtype=np.int64)
    for n, (gpus, state) in enumerate(asked):
        found = router.route(need(n, gpus, WORK[state]))
        if isinstance(found, Routed):
            room.take(found.group, found.slots, state)
            works[found.group, state] += gpus
            assert state == DeviceState.INFERENCE_REALTIME or room.free[found.group] >= 4
    for g in range(2):
        at_or_above = works[g, ::-1].cumsum()[::-1]
        assert at_or_above[6] <= training
        assert at_or_above[5] <= batch
        assert at_or_above[4] <= realtime
        assert room.free[g] == 32 - works[g].sum() == room.of[g].free.sum()


@given(
    st.lists(st.tuples(st.integers(1, 8), st.floats(0, 100)), min_size=1, max_size=7),
    st.integers(1, 8),
    st.integers(0, 3),
)
def test_who_gives_way_is_enough_needed_and_no_dearer_than_the_best_single_one(running, count, free):
    """Each candidate on a node of its own: whoever goes is needed, and a single one that would do costs no less."""
    groups = [group(devices=8 * len(running) + 8)]
    room = Room(groups, [np.ones(groups[0].devices, dtype=bool)])
    candidates = []
    for n, (gpus, usd) in enumerate(running):
        slots = np.arange(8 * n, 8 * n + gpus, dtype=np.int64)
        room.take(0, np.arange(8 * n, 8 * n + 8, dtype=np.int64), 6)
        candidates.append(Candidate(UUID(int=n), 8, 6, slots, usd))
    room.take(0, np.arange(8 * len(running) + free, groups[0].devices, dtype=np.int64), 6)
    router = Router(room, market(groups), Rules(realtime_spare_fraction=0.0))
    urgent = need(99, count, WorkloadType.AI_INFERENCE_REALTIME, priority=2)
    if isinstance(router.route(urgent), Routed):
        return
    found = give_way(router, urgent, {0: candidates})
    enough = [c for c in candidates if len(c.slots) >= count]
    assert (found is None) == (not enough), "one node must do, and each candidate has one of its own"
    if found is not None:
        assert found.usd <= min(c.usd for c in enough) + 1e-9
        for some in combinations(found.victims, len(found.victims) - 1):
            trial = room.of[0].copy()
            for one in some:
                trial.give(one.slots)
            assert pack(trial, count, Colocation.NODE) is None


def test_less_urgent_work_never_makes_more_urgent_work_give_way():
    groups = [group(devices=8)]
    room = Room(groups, [np.zeros(8, dtype=bool)])
    room.working[0] += 8 * room.reach[0, 6]
    router = Router(room, market(groups), Rules(realtime_spare_fraction=0.0))
    running = {0: [Candidate(UUID(int=1), 3, 6, np.arange(8, dtype=np.int64), 0.0)]}
    assert give_way(router, need(2, 4, priority=3), running) is None
    assert give_way(router, need(2, 4, priority=2), running) is not None


def test_nothing_is_kept_for_work_that_no_group_could_ever_hold():
    """The queue keeps what is free for large work only where there could ever be enough: groups don't add up for that."""
    groups = [group("a"), group("b", devices=16), group("c", closed="locked out", devices=64)]
    room = Room(groups, [np.ones(g.devices, dtype=bool) for g in groups])
    assert room.by_type(market(groups)) == {"H100": 48}
    assert room.most_by_type() == {"H100": 32}


def test_filters_say_what_failed():
    groups = [
        group("small", memory_gb=40.0), group("other", names=frozenset({"A100"})), group("locked", closed="locked out"),
        group("far", latitude=47.6, longitude=-122.3), group("idle", power_kw={1: 0.4, 5: 1.3}),
        group("elsewhere", facility_id="x"), group("good"),
    ]  # fmt: skip
    room = Room(groups, [np.ones(32, dtype=bool)] * len(groups))
    router = Router(room, market(groups), Rules())
    asked = need(1, 8, memory_gb=80.0, max_latency_ms=20.0, client=(29.8, -95.4), facility="f")
    found = router.route(asked)
    assert isinstance(found, Routed)
    words = dict(found.explanation)
    assert words.pop("f/good") == round(found.score, 2)
    assert words.pop("f/far").endswith("ms away, 20.0 ms are allowed")
    assert words == {
        "f/small": "40 GB a GPU, 80.0 are asked for", "f/other": "has no H100", "f/locked": "locked out",
        "f/idle": "its devices can't be in the state training", "x/elsewhere": "the work asks for f",
    }  # fmt: skip
    dear = router.route(need(2, 8, max_usd_per_gpu_hour=2.0))
    assert "$2.50 a GPU-hour, $2.0 are paid at most" in dear.reason
    unknown = Router(room, market(groups, revenue=float("nan")), Rules())
    limited = unknown.route(need(3, 8, max_usd_per_gpu_hour=2.0))
    assert "what a GPU-hour costs there is not known" in limited.reason
    assert isinstance(unknown.route(need(3, 8)), Routed), "who sets no limit pays what it comes to"


def test_the_score_is_the_weighted_sum_and_the_reason_reads_as_required():
    groups = [group(devices=32)]
    room = Room(groups, [np.arange(32) >= 16])
    router = Router(room, market(groups, price=100.0), Rules())
    found = router.route(need(1, 8, max_latency_ms=10.0, client=(30.0, -95.0)))
    cost = 8 * 1.4 * 100 / 1000
    expected = 0.3 * 50 + 0.3 * (100 - cost) + 0.2 * 50 + 0.2 * 100 * (2.5 - cost / 8) / 2.5
    assert abs(found.score - expected) < 1e-9
    assert found.reason == "Latency: 5ms, Cost: $1.12/hr, Utilization: 50.0%"
    assert found.confidence == 1.0


WORDS = ("colocation", "facility", "not_facility", "region", "client_lat", "client_lon")
SAID = st.one_of(st.booleans(), st.floats(), st.text(max_size=20), st.sampled_from(("node", "rack", "any", "f", "TX")))


@given(st.dictionaries(st.sampled_from(WORDS), SAID), st.sampled_from(WorkloadType), st.integers(1, 40))
def test_whatever_customers_say_of_their_work_is_routed_or_told_why_not(said, work, gpus):
    place = place_of(work, "H100", gpus, None, {"sla_parameters": said}, {"max_latency_ms": 50.0})
    groups = [group(), group("closed", closed="locked out")]
    room = Room(groups, [np.ones(g.devices, dtype=bool) for g in groups])
    found = Router(room, market(groups), Rules()).route(Need(UUID(int=1), 1, place, 5, True, None, 60.0, None))
    if isinstance(found, Routed):
        assert work is not WorkloadType.BITCOIN_MINING
        assert len(found.slots) == gpus
        assert 0 <= found.score <= 100
        assert 0 <= found.confidence <= 1
        assert np.isfinite(found.latency_ms)
    else:
        assert found.reason.startswith("no suitable resources available")
    assert [name for name, _ in found.explanation] == ["f/g", "f/closed"]
