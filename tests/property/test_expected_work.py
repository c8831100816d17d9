"""Work that is expected beside what asks already: never counted twice, never to the cost of what waits, nothing where it is 0."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.forecasting.hours import HOUR_US, microseconds
from hcp_pipelines.forecasting.learnable.protocol import LEVELS
from hcp_pipelines.optimizer.ai_work import Ahead
from hcp_pipelines.optimizer.explain_words import lines_of
from hcp_pipelines.optimizer.queue.ahead import QueueWork
from hcp_pipelines.optimizer.queue.deadlines import with_urgency
from hcp_pipelines.optimizer.queue.expected import Expected, coming_by_place, hours_touched, room_by_place, to_come
from hcp_pipelines.optimizer.queue.forecast import usable
from hcp_pipelines.optimizer.queue.live import with_work
from hcp_pipelines.optimizer.queue.places import placed, places_of
from hcp_pipelines.optimizer.queue.valued import valued
from hcp_pipelines.optimizer.solve import solve_facility
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.explaining import at_anchor
from hcp_pipelines.policy.schema import Policy, WorkExpected
from hcp_pipelines.storage.expected_demand import Hour, Said
from tests.property.test_queue_policies import jobs
from tests.support.work import (
    CLASSES,
    GPU_LADDER,
    INDICES,
    NOW,
    REALTIME,
    asked,
    gpus,
    held,
    inputs,
    job,
    miners,
    queue,
    site,
)

HOURS = 12
STARTS = microseconds(NOW) + HOUR_US * np.arange(HOURS)
few = settings(max_examples=12, deadline=None)
WORD = WorkExpected(model="demand/3", quantile="q90", asked_at=NOW)
REALTIME_WORK = CLASSES[0]


def expects(**by_class):
    """GPUs of each class, the same in all hours or an hour each."""
    return Expected(WORD, STARTS, {name: np.broadcast_to(np.array(n, float), HOURS) for name, n in by_class.items()})


forecasts = st.dictionaries(st.sampled_from(CLASSES), st.lists(st.floats(0, 200), min_size=HOURS, max_size=HOURS)).map(
    lambda said: expects(**said)
)


@st.composite
def worlds(draw):
    """(inputs of a facility, its queue)."""
    names = [f"h100-{n}" for n in range(draw(st.integers(1, 2)))]
    groups = [gpus(draw(st.integers(1, 60)), name) for name in names] + [miners(draw(st.integers(1, 60)))]
    work = queue(*(draw(jobs(n, names)) for n in range(draw(st.integers(0, 10)))), spare=draw(st.floats(0.01, 0.2)))
    return inputs(site(groups)), work


def by_work(steps):
    """Steps of the queue's own work, and GPUs kept beside it."""
    return [step for step in steps if step.workload_type], sum(step.gpus for step in steps if not step.workload_type)


def served_of(one, work):
    places = places_of([one])
    found = placed(with_urgency(work.work, {"H100": sum(place.group.devices for place in places)}), places)
    return found, valued(found, places), places


@few
@given(worlds(), forecasts)
def test_what_waits_and_runs_is_asked_for_as_before_and_the_room_is_never_less_than_the_fixed_share(world, expected):
    one, work = world
    [plain], [found] = asked([one], work), with_work(work, [one], places_of([one]), expected)
    assert found.unplaced == plain.unplaced
    for group in (each for each in one.site.groups if each.is_scheduled):
        (own, room), (own_before, room_before) = (by_work(each.work[group.group_id]) for each in (found, plain))
        assert own == own_before
        assert room_before <= room <= max(group.devices - sum(step.gpus for step in own), 0)


def most_of(expected, now, seconds):
    """Of each class the most that is said in an hour that some time from now on touches."""
    hours = hours_touched(now, seconds)
    return {name: float(expected.in_hours(name, hours).max(initial=0.0)) for name in CLASSES}


@few
@given(
    st.lists(jobs(0, ["h100-0"]), min_size=1, max_size=8),
    st.tuples(*[st.lists(st.floats(0, 60), min_size=HOURS, max_size=HOURS)] * 3),
    st.floats(0, 3599),
    st.sampled_from([60.0, 600.0, 3600.0, 9000.0]),
)
def test_room_is_never_more_than_is_said_beyond_what_asks_already(some, gpus_said, into_s, keeps_s):
    """However late in the hour, however long the policy has to do, and whatever is over its estimate: its blocks stay."""
    work = queue(*({**each, "number": n} for n, each in enumerate(some)), spare=0.01)
    one, said = inputs(site([gpus(400, "h100-0"), miners()])), expects(**dict(zip(CLASSES, gpus_said, strict=True)))
    one = replace(one, solved_at=NOW + timedelta(seconds=into_s), refresh_after_s=keeps_s)
    [plain], [found] = asked([one], work), with_work(work, [one], places_of([one]), said)
    most = most_of(said, one.solved_at, keeps_s)
    asks = dict(work.work.group_by("type").agg(pl.col("gpus").sum()).iter_rows())
    missing = {name: max(most[name] - asks.get(name, 0), 0.0) for name in CLASSES}
    share, room = (by_work(each.work["h100-0"])[1] for each in (plain, found))
    assert found.expected.gpus <= math.ceil(sum(missing.values()))
    assert share <= room <= max(share, found.expected.gpus)


@few
@given(worlds(), st.booleans())
def test_a_forecast_of_nothing_decides_to_the_byte_what_none_does(world, is_said):
    one, work = world
    expected = expects(**dict.fromkeys(CLASSES, 0.0)) if is_said else expects()
    [plain], [found] = asked([one], work), with_work(work, [one], places_of([one]), expected)
    assert replace(found, expected=None) == plain
    policy = solve_facility(found)
    assert policy.model_copy(update={"expected": None}).digest() == solve_facility(plain).digest()
    everything, served, places = served_of(one, work)
    hours = Ahead(STARTS, np.arange(HOURS), np.zeros(HOURS, dtype=np.int64), 4)
    coming = tuple(coming_by_place(expected, everything, served, places, NOW))
    before, after = QueueWork(NOW, served), QueueWork(NOW, served, coming)
    assert (after.most_inference_mw, after.jobs(hours)) == (before.most_inference_mw, before.jobs(hours))
    for name in ("usd_per_mwh", "mw"):
        assert np.array_equal(getattr(after.inference(hours), name), getattr(before.inference(hours), name))


@few
@given(worlds(), forecasts, jobs(99, ["h100-0"]))
def test_work_that_has_come_is_not_expected_any_more(world, expected, new):
    one, work = world
    more = queue(*work.work.to_dicts(), new)
    were, are = (served_of(one, each)[0] for each in (work, more))
    before, after = (to_come(expected, each, NOW, STARTS) for each in (were, are))
    assert all((after[name] >= 0).all() and (after[name] <= expected.in_hours(name, STARTS)).all() for name in CLASSES)
    had, has = (dict(each.select("number", "place").iter_rows()) for each in (were, are))
    if all(has.get(number) == place for number, place in had.items()):  # it took nobody's place
        assert all((after[name] <= before[name] + 1e-9).all() for name in CLASSES)
        assert all(np.array_equal(before[name], after[name]) for name in CLASSES if name != new["type"])


def test_what_comes_is_what_is_said_less_what_still_asks_by_hour():
    """Eight GPUs run for an hour and a half more; twenty are said. Half past, the running hour has what is left of it alone."""
    one, work = inputs(site([gpus(100)])), queue(job(1, REALTIME_WORK, 8, estimated_s=5400.0))
    found = to_come(expects(ai_inference_realtime=20.0), served_of(one, work)[0], NOW, STARTS)
    assert found[REALTIME_WORK][:3] == pytest.approx([12.0, 16.0, 20.0])
    half_past = to_come(
        expects(ai_inference_realtime=20.0), served_of(one, work)[0], NOW + timedelta(minutes=30), STARTS
    )
    assert half_past[REALTIME_WORK][:3] == pytest.approx([12.0, 12.0, 20.0])
    stuck = queue(job(1, REALTIME_WORK, 8, limit_usd_per_gpu_hour=0.01, estimated_s=60.0))
    waits = to_come(expects(ai_inference_realtime=20.0), served_of(one, stuck)[0], NOW, STARTS)
    assert waits[REALTIME_WORK] == pytest.approx(12.0)  # it has no place, and asks until it has one


def test_a_policy_keeps_room_for_the_most_of_the_time_that_it_has_to_do_where_power_is_cheapest():
    dear, cheap = (inputs(site([gpus(50), miners()], name), price) for name, price in (("dear", 60.0), ("cheap", 20.0)))
    work, both = queue(job(1, REALTIME_WORK, 4), spare=0.05), [dear, cheap]
    said = expects(ai_inference_realtime=[64.0, 74.0, 500.0, *[0.0] * 9])
    found = {each.site.facility_id: each for each in with_work(work, both, places_of(both), said)}
    assert {name: each.expected.gpus for name, each in found.items()} == {
        "cheap": 46,
        "dear": 14,
    }  # 60 of the first hour
    longer = [replace(each, refresh_after_s=7200.0) for each in both]
    later = {each.site.facility_id: each for each in with_work(work, longer, places_of(longer), said)}
    assert {name: each.expected.gpus for name, each in later.items()} == {
        "cheap": 46,
        "dear": 24,
    }  # 70 of the second: the blocks of the four stay, though they are said to end after the first
    policy = Policy.model_validate_json(solve_facility(found["dear"]).model_dump_json())
    (block,) = [
        each for each in policy.blocks if each.to_state is REALTIME and each.work and not each.work.workload_type
    ]
    assert (block.devices, "14 GPUs expected" in block.work.words) == (14, True)
    assert policy.expected.words == "14 GPUs by demand/3 (q90, asked 2025-01-01 00:00Z), the fixed share at least"
    explained = lines_of(at_anchor(compile_policy(policy)))
    assert f"room for work to come: {policy.expected.words}" in explained
    unsaid = policy.model_copy(update={"expected": WorkExpected(reason="no version of demand serves")})
    why = "room for work to come: the fixed share alone, as no version of demand serves"
    assert why in lines_of(at_anchor(compile_policy(unsaid)))
    running = held(2, facility_id="another", kind=REALTIME_WORK, gpu_count=20)
    more = {
        each.site.facility_id: each
        for each in with_work(queue(job(1, REALTIME_WORK, 4), running, spare=0.05), both, places_of(both), said)
    }
    assert {name: each.expected.gpus for name, each in more.items()} == {"cheap": 40, "dear": 0}  # 20 ask elsewhere
    none = with_work(queue(job(1, REALTIME_WORK, 4)), both, places_of(both), said)
    assert [each.expected.gpus for each in none] == [0, 0]  # the operator keeps none


@pytest.mark.parametrize(
    ("work", "room"),
    [
        ((), 60),
        ((job(1, REALTIME_WORK, 1, gpu_type="A100"),), 59),  # which nobody has: it waits for ever
        ((job(1, REALTIME_WORK, 1, gpu_type="GPU"),), 59),  # any will do
        ((held(1, facility_id="other", group_id="a100", kind=REALTIME_WORK, gpu_count=20, gpu_type="A100"),), 40),
        (
            (
                held(1, facility_id="other", group_id="a100", kind=REALTIME_WORK, gpu_count=20, gpu_type="A100"),
                job(2, REALTIME_WORK, 4),
            ),
            36,
        ),
    ],
)
def test_work_on_gpus_that_no_place_has_takes_nothing_of_the_room_but_what_it_asks_for(work, room):
    one = inputs(site([gpus(100), miners()]))
    [found] = with_work(queue(*work, spare=0.01), [one], places_of([one]), expects(ai_inference_realtime=60.0))
    assert found.expected.gpus == room


def test_where_only_some_groups_can_be_in_a_class_s_state_its_work_is_expected_there():
    both = inputs(site([gpus(30), replace(gpus(30, "a100", ladder=GPU_LADDER[:2]), gpu_type="A100")]))
    places = places_of([replace(both, indices={**INDICES, "gpu.A100": 1.0})])
    found = room_by_place(expects(ai_inference_realtime=20.0), queue().work, places, {}, (NOW, 3600.0))
    assert {place.group.group_id: gpus for place, gpus in zip(places, found, strict=True)} == {"h100": 20, "a100": 0}


def test_offers_have_what_comes_by_hour_at_what_such_work_pays():
    one, work = inputs(site([gpus(100)])), queue(job(1, REALTIME_WORK, 10, estimated_s=7200.0))
    everything, served, places = served_of(one, work)
    said = expects(ai_inference_realtime=[30.0] * 11 + [500.0], model_training=5.0)
    (coming,) = coming_by_place(said, everything, served, places, NOW)
    assert coming.usd_per_mwh == pytest.approx([2000 / 0.9, 2000 / 1.0])
    assert coming.mw[0] * 1000 / 0.9 == pytest.approx([20, 20, *[30] * 9, 100])  # no more than there are
    assert coming.mw[1] * 1000 == pytest.approx([*[5] * 11, 0])
    hours = Ahead(STARTS[1:] + 2 * HOUR_US, np.arange(11), np.zeros(11, dtype=np.int64), 2)
    mw = QueueWork(NOW, served, (coming,)).inference(hours).mw
    assert mw[1] * 1000 / 0.9 == pytest.approx(np.repeat([*[30] * 8, 100, 0, 0], 2))  # of the last two nothing is said


def said(**more):
    rows = [
        Hour(name, NOW + timedelta(hours=h), [float(n) for n in range(len(LEVELS))])
        for name in CLASSES
        for h in range(3)
    ]
    return replace(Said(tuple(rows), "demand/3", NOW, 3601.0, "demand/3"), **more)


def learnt(hours, minutes=0):
    return NOW + timedelta(hours=hours, minutes=minutes)


def one_hour(**more):
    return (replace(said().hours[0], **more), *said().hours[1:])


@pytest.mark.parametrize(
    ("found", "now", "why"),
    [
        (said(serves=None), NOW, "no version of demand serves"),
        (Said((), "", None, None, "demand/3"), NOW, "demand/3 serves and has said nothing yet"),
        (Said((), "", None, None, "demand/3", learnt(0, 2)), NOW, "nothing yet: it is asked from 2025-01-01T01:00Z on"),
        (said(serves="demand/4"), NOW, "demand/4 serves, the newest word is of demand/3: forecasts_job asks it twice"),
        (said(serves="demand/4", trained_until=learnt(0, 2)), NOW, "of demand/3: it is asked from 2025-01-01T01:00Z on"),
        (said(serves="demand/4", trained_until=NOW, before="demand/3"), NOW, "of demand/3: forecasts_job asks it"),
        (said(serves="demand/4", trained_until=learnt(0, 2), before="demand/3"), learnt(1), "of demand/3: forecasts_job asks"),
        (said(serves="demand/4", trained_until=learnt(9), before="demand/3"), learnt(6, 1), "demand/3 was asked 6.0 hours"),
        (said(), learnt(3), "demand/3 says nothing past 2025-01-01T03:00Z"),
        (said(kept_for_s=1800.0), learnt(30), "demand/3 says nothing past 2025-01-01T03:00Z"),
        (said(), NOW + timedelta(hours=6, minutes=1), "was asked 6.0 hours of the world ago, at most 6"),
        (said(), NOW - timedelta(minutes=1), "was asked at 2025-01-01T00:00Z, which is still to come"),
        (said(hours=one_hour(gpus=[1.0] * 6)), NOW, "says 6 quantiles of ai_inference_realtime: must be 7"),
        (said(hours=one_hour(gpus=[0.0, 1.0, 2.0, float("nan"), 4.0, 5.0, 6.0])), NOW, "what is no number of GPUs"),
        (said(hours=one_hour(gpus=[-1.0, *[1.0] * 6])), NOW, "what is no number of GPUs"),
        (said(hours=one_hour(gpus=[*[2.0] * 6, 1.0])), NOW, "that fall as their level rises"),
        (said(hours=(said().hours[0], *said().hours[2:])), NOW, "does not say hours of ai_inference_realtime one after"),
        (said(hours=said().hours[1:]), NOW, "does not say the same hours of all classes"),
    ],
)  # fmt: skip
def test_a_word_that_can_not_be_used_says_why(found, now, why):
    with pytest.raises(ModelError, match=why):
        usable(found, now, "q90")


def test_the_quantile_that_is_asked_for_is_taken():
    found = usable(said(), NOW + timedelta(hours=2), "q75")
    assert {name: set(values) for name, values in found.gpus.items()} == {name: {4.0} for name in CLASSES}
    assert found.word == WorkExpected(model="demand/3", quantile="q75", asked_at=NOW)


def test_in_a_fast_world_a_word_of_the_last_hour_of_the_wall_is_new_as_far_as_it_goes():
    """Thirty hours go by between two askings; it says 72."""
    whole = tuple(replace(said().hours[0], hour_at=learnt(h)) for h in range(72))
    found = usable(said(hours=whole, kept_for_s=1800.0), learnt(71, 59), "q90")
    assert found.in_hours(CLASSES[0], STARTS[:1] + HOUR_US * np.array([30, 71, 72])).tolist() == [5.0, 5.0, 0.0]


def test_until_a_new_champion_can_be_asked_the_word_of_the_one_before_stands():
    promoted = said(serves="demand/4", trained_until=learnt(0, 2), before="demand/3")
    found = usable(promoted, learnt(0, 59), "q90")
    assert found.word == WorkExpected(model="demand/3", quantile="q90", asked_at=NOW)
    assert found.in_hours(CLASSES[0], STARTS[:4]).tolist() == [5.0, 5.0, 5.0, 0.0]
