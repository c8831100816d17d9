"""The queue as a value curve: worth by hand, places for whole pieces, deadlines, and how a spike of prices takes it down."""

from dataclasses import replace

import numpy as np
import pytest

from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.evaluate import evaluate
from hcp_pipelines.policy.guard import GuardState
from tests.support.work import (
    BATCH,
    CLASSES,
    GPU_LADDER,
    IDLE,
    INDICES,
    NOW,
    REALTIME,
    TRAINING,
    asked,
    gpus,
    held,
    inputs,
    job,
    miners,
    queue,
    site,
    solved,
)

KW = 1.0  # of training, from rest
LOAD_USD = 180 / 3600 * 2.0  # of one GPU that resumes training, at the market's rate
HOUR = 3600.0


def only(one_queue, **more):
    """The one step of work on a group of 100 GPUs."""
    [found] = asked([inputs(site([gpus()], **more))], one_queue)
    [step] = found.work["h100"]
    return step


def at(affine, index=2.0):
    return pytest.approx(affine.at(index))


def asks(policy, price, start="rest"):
    """GPUs by state at a price, from rest or from the policy's own anchor."""
    compiled = compile_policy(policy)
    present = np.zeros((len(policy.groups), STATE_COUNT), dtype=np.int64)
    for g, group in enumerate(policy.groups):
        if start == "rest":
            present[g, group.ladder[0].state] = group.devices
        else:
            for label, devices in policy.anchor.devices_by_state[group.group_id].items():
                present[g, next(s.state for s in group.ladder if s.state.label == label)] = devices
    got = evaluate(compiled, present, price, INDICES, NOW, GuardState.empty(compiled))
    return {
        state: int(n) for state, n in zip((IDLE, REALTIME, BATCH, TRAINING), got.targets[0, [1, 4, 5, 6]], strict=True)
    }


def test_waiting_work_pays_the_market_and_is_let_in_below_it_by_a_share_of_what_loading_costs():
    step = only(queue(job()))
    assert (step.state, step.gpus) == (TRAINING, 8)
    assert step.worth.at(2.0) == pytest.approx(2000.0)
    assert step.worth.at(3.0) == pytest.approx(3000.0)  # it follows the index
    per_hour = LOAD_USD * 1000 / KW / 0.25
    assert step.on.at(2.0) == pytest.approx(2000 - 0.1 * per_hour)
    assert step.off.at(2.0) == pytest.approx(2000 + 0.4 * per_hour)
    assert step.stop_usd_per_mw == pytest.approx(LOAD_USD * 1000)


def test_a_high_limit_buys_nothing_and_one_below_the_rate_waits_for_a_lower_rate():
    assert only(queue(job(limit_usd_per_gpu_hour=50.0))) == only(queue(job()))
    [found] = asked([inputs(site([gpus()]))], queue(job(limit_usd_per_gpu_hour=1.99)))
    assert found.work["h100"] == ()
    [left] = found.unplaced
    assert (left.why, left.usd_per_gpu_hour, left.than_usd_per_gpu_hour) == ("rate", 1.99, 2.0)
    [sold] = asked([inputs(site([gpus()], gpu_rate_fraction={TRAINING: 0.9}))], queue(job(limit_usd_per_gpu_hour=1.99)))
    assert [step.usd_per_gpu_hour for step in sold.work["h100"]] == [pytest.approx(1.8)]


def test_work_goes_where_it_asks_to_be():
    sites = [
        inputs(site([gpus()], name, regions=frozenset({"tx", town})), price)
        for name, town, price in (("a", "waco", 20), ("b", "houston", 90))
    ]
    work = queue(
        job(1, in_facility="b", gpu_count=1), job(2, not_facility="a", gpu_count=2), job(3, region="Houston", gpu_count=4),
        job(4, region="TX", gpu_count=8), job(5, in_facility="c", gpu_count=16), job(6, region="OH", gpu_count=32),
    )  # fmt: skip
    a, b = asked(sites, work)
    assert sum(step.gpus for step in a.work["h100"]) == 8
    assert sum(step.gpus for step in b.work["h100"]) == 7
    assert [(left.gpus, left.why) for left in a.unplaced] == [(48, "no_group")]


def test_classes_sell_at_the_sites_fractions_and_the_contracts_adders_are_taken_off():
    step = only(queue(job(kind=CLASSES[1])), gpu_rate_fraction={BATCH: 0.5}, adders_usd_per_mwh=12.0)
    assert step.worth.at(2.0) == pytest.approx(1000 / 0.8 - 12)


def test_running_work_pays_what_was_agreed_and_what_it_has_not_saved_keeps_it_on():
    fresh, old = only(queue(held(agreed=1.7))), only(queue(held(agreed=1.7, unsaved_s=900.0)))
    assert fresh.worth == old.worth
    assert fresh.worth.at(2.0) == fresh.worth.at(3.0) == pytest.approx(1700.0)
    assert fresh.on == old.on
    lost_usd_per_mw = 900 / 3600 * 1.7 * 1000 / KW
    assert old.off.at(2.0) - fresh.off.at(2.0) == pytest.approx(0.4 * lost_usd_per_mw / 0.25)
    assert old.stop_usd_per_mw - fresh.stop_usd_per_mw == pytest.approx(lost_usd_per_mw)


def test_what_said_that_it_can_not_be_interrupted_is_owed_for_once_it_runs():
    firm = {"is_interruptible": False, "credit_fraction": 0.25, "estimated_s": 4 * HOUR}
    waits, runs, plain = only(queue(job(**firm))), only(queue(held(**firm))), only(queue(held(estimated_s=4 * HOUR)))
    assert waits.off.at(2.0) == pytest.approx(only(queue(job())).off.at(2.0))
    assert runs.stop_usd_per_mw - plain.stop_usd_per_mw == pytest.approx(0.25 * 4 * 2.0 * 1000 / KW)


def test_what_would_be_late_if_it_were_interrupted_is_owed_for_too():
    more = {"credit_fraction": 0.5, "estimated_s": HOUR, "saved_s": 0.0, "unsaved_s": 1800.0}
    late = only(queue(held(due_in_s=1800.0 + 1000.0, **more)))
    in_time = only(queue(held(due_in_s=1e5, **more)))
    assert late.stop_usd_per_mw - in_time.stop_usd_per_mw == pytest.approx(0.5 * 2.0 * 1000 / KW)


@pytest.mark.parametrize("make", [job, held])
def test_work_that_must_run_now_is_worth_what_is_owed_over_what_is_left(make):
    more = {"credit_fraction": 0.5, "estimated_s": 2 * HOUR, "saved_s": 1.5 * HOUR}
    urgent = only(queue(make(due_in_s=0.5 * HOUR + 60, **more)))
    patient = only(queue(make(due_in_s=5 * HOUR, **more)))
    too_late = only(queue(make(due_in_s=0.5 * HOUR - 1, **more)))
    assert patient.worth.at(2.0) == too_late.worth.at(2.0) == pytest.approx(2000.0)
    assert urgent.worth.at(2.0) == pytest.approx(2000 + 0.5 * 2 * 2.0 / 0.5 * 1000)
    assert "must run now" in urgent.words
    assert "must run now" not in patient.words + too_late.words


def test_what_is_due_by_an_instant_must_run_once_it_needs_every_gpu_until_then():
    four_hours = {"gpu_count": 50, "estimated_s": 4 * HOUR}
    free = asked([inputs(site([gpus()]))], queue(job(1, due_in_s=8 * HOUR, **four_hours)))
    full = asked([inputs(site([gpus()]))], queue(*(job(n, due_in_s=8 * HOUR, **four_hours) for n in range(4))))
    assert "must run now" not in free[0].work["h100"][0].words
    assert all("must run now" in step.words for step in full[0].work["h100"])


def test_pieces_are_placed_whole_where_power_is_cheapest_in_the_queues_order():
    dear, cheap = inputs(site([gpus(16)], "dear"), price=90.0), inputs(site([gpus(12)], "cheap"), price=20.0)
    work = queue(
        job(1, gpu_count=8, level=5),
        job(2, CLASSES[1], gpu_count=8, level=3),
        job(3, gpu_count=4, level=9),
        job(4, gpu_count=16, level=2),
    )
    at_dear, at_cheap = asked([dear, cheap], work)
    assert sum(step.gpus for step in at_dear.work["h100"]) == 16  # the first in turn fits there alone
    assert {step.state: step.gpus for step in at_cheap.work["h100"]} == {BATCH: 8, TRAINING: 4}  # level 3 before 5
    [left] = at_dear.unplaced
    assert (left.jobs, left.gpus, left.why, left.than_usd_per_gpu_hour) == (1, 8, "no_gpus", 2.0)
    assert at_cheap.unplaced == at_dear.unplaced


def test_what_must_run_now_goes_first_whatever_its_level():
    work = queue(job(1, gpu_count=8, level=1), job(2, gpu_count=8, level=9, due_in_s=HOUR + 10, credit_fraction=0.1))
    [found] = asked([inputs(site([gpus(8)]))], work)
    [step] = found.work["h100"]
    assert "must run now" in step.words


@pytest.mark.parametrize(
    ("more", "can_run"),
    [
        ({"gpu_count": 101}, False),
        ({"memory_gb": 141.0}, False),
        ({"gpu_type": "B200"}, False),
        ({"kind": "ai_inference_realtime"}, False),  # no such state on the ladder below
        ({"gpu_count": 8, "memory_gb": 80.0}, True),
    ],
)
def test_work_that_a_group_can_not_do_is_not_its(more, can_run):
    ladder = tuple(s for s in GPU_LADDER if s.state is not REALTIME)
    [found] = asked([inputs(site([gpus(ladder=ladder)]))], queue(job(**more)))
    assert bool(found.work["h100"]) == can_run
    assert [(left.why, left.than_usd_per_gpu_hour) for left in found.unplaced] == (
        [] if can_run else [("no_group", None)]
    )


def test_any_gpu_is_any_gpu_and_a_models_name_names_it():
    [found] = asked([inputs(site([gpus()]))], queue(job(1, gpu_type="GPU"), job(2, gpu_type="H100 SXM5")))
    assert sum(step.gpus for step in found.work["h100"]) == 16


def test_work_that_runs_where_nothing_is_scheduled_is_nobodys_demand():
    [found] = asked([inputs(site([gpus()]))], queue(held(1, group_id="elsewhere"), held(2)))
    assert [step.gpus for step in found.work["h100"]] == [8]
    assert found.unplaced == ()


def test_thousands_of_pieces_make_a_few_steps_that_add_up():
    random = np.random.default_rng(1)
    rates, sizes = random.uniform(0.5, 3, 3000), random.integers(1, 9, 3000)
    work = queue(
        *(
            held(n, kind=CLASSES[n % 3], gpu_count=int(size), agreed=rate)
            for n, (rate, size) in enumerate(zip(rates, sizes, strict=True))
        )
    )
    [found] = asked([inputs(site([gpus(20_000)]))], work)
    steps = found.work["h100"]
    assert len(steps) == 9
    assert sum(step.gpus for step in steps) == sizes.sum()
    total = sum(step.worth.at(2.0) * step.gpus for step in steps if step.state is TRAINING) / 1000 * KW
    mine = np.arange(3000) % 3 == 2
    assert total == pytest.approx((rates * sizes)[mine].sum())


def test_nothing_is_asked_for_without_work_and_room_for_more_only_as_far_as_the_operator_keeps_some():
    assert asks(solved(inputs(site([gpus()])), queue()), -50.0) == {IDLE: 100, REALTIME: 0, BATCH: 0, TRAINING: 0}
    kept = solved(inputs(site([gpus()])), queue(held(gpu_count=60), spare=0.05))
    assert asks(kept, 30.0) == {IDLE: 35, REALTIME: 0, BATCH: 0, TRAINING: 65}
    in_nodes = solved(inputs(site([replace(gpus(), gpus_per_node=8)])), queue(held(gpu_count=60), spare=0.05))
    assert asks(in_nodes, 30.0)[TRAINING] == 68
    full = solved(inputs(site([gpus()])), queue(held(gpu_count=98), spare=0.05))
    assert asks(full, 30.0) == {IDLE: 0, REALTIME: 0, BATCH: 0, TRAINING: 100}


def test_a_spike_takes_the_least_valuable_work_first_and_leaves_the_others_where_they_are():
    policy = solved(
        inputs(site([gpus()])),
        queue(
            held(1, "h100", kind=CLASSES[0], gpu_count=10, agreed=3.0),
            held(2, "h100", kind=CLASSES[1], gpu_count=20, agreed=1.0),
            held(3, "h100", kind=CLASSES[2], gpu_count=40, agreed=1.5),
        ),
    )
    assert asks(policy, 900.0, "anchor") == {IDLE: 30, REALTIME: 10, BATCH: 20, TRAINING: 40}
    assert asks(policy, 1400.0, "anchor") == {IDLE: 50, REALTIME: 10, BATCH: 0, TRAINING: 40}
    assert asks(policy, 2500.0, "anchor") == {IDLE: 90, REALTIME: 10, BATCH: 0, TRAINING: 0}
    assert asks(policy, 9000.0, "anchor") == {IDLE: 100, REALTIME: 0, BATCH: 0, TRAINING: 0}


def test_work_with_much_to_lose_outlasts_work_that_pays_more():
    policy = solved(
        inputs(site([gpus()])),
        queue(held(1, gpu_count=10, agreed=1.5, unsaved_s=7200.0), held(2, gpu_count=20, agreed=2.0)),
    )
    assert asks(policy, 2400.0, "anchor")[TRAINING] == 10
    assert asks(policy, 2400.0)[TRAINING] == 0  # neither is let in again at that price
    assert "the last to go: model_training: 1 running, 1.50 $/GPU-hour" in policy.blocks[0].work.words


def test_work_outbids_miners_for_power_and_gives_it_back_when_there_is_none():
    capacity_mw = 0.35
    busy = solved(inputs(site([gpus(), miners(100)], capacity_mw=capacity_mw)), queue(job(gpu_count=100)))
    idle = solved(inputs(site([gpus(), miners(100)], capacity_mw=capacity_mw)), queue())
    mining = [policy.anchor.target_by_state["s21"].get("mining_full", 0) for policy in (busy, idle)]
    assert mining == [59, 88]
    assert busy.couplings.sheddable == ("s21",)


def test_facilities_without_scheduled_groups_are_solved_as_ever():
    plain = inputs(site([gpus(is_scheduled=False), miners()]))
    other = inputs(site([gpus()], "other"))
    [same, _] = asked([plain, other], queue(job()))
    assert same is plain
    policy = solve_facility(plain)
    assert policy.couplings.sheddable == ()
    assert all(block.work is None for block in policy.blocks)


def test_policies_without_work_keep_the_digests_that_they_had_before_there_was_any():
    policy = solve_facility(inputs(site([gpus(is_scheduled=False), miners()])))
    assert policy.digest() == "354c70dbd113198c7510512c61cd5abd2ee4aece773153a7803150b85edef5e8"


def test_of_fewer_devices_than_planned_the_work_asks_for_as_many_as_before():
    compiled = compile_policy(solved(inputs(site([gpus()])), queue(job(gpu_count=40))))
    present = np.zeros((1, STATE_COUNT), dtype=np.int64)
    present[0, IDLE] = 60
    got = evaluate(compiled, present, 30.0, INDICES, NOW, GuardState.empty(compiled))
    assert got.targets[0, TRAINING] == 40
