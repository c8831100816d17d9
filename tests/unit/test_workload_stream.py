"""The stream of submissions: the same by seed, in order, in shares, with what is marked as wrong being wrong."""

import json
import tracemalloc
from collections import Counter
from datetime import datetime
from itertools import islice, pairwise

import numpy as np
import pytest

from simulators.workloads import assumed, fitted
from simulators.workloads.arrivals import Calendar, Process
from simulators.workloads.customers import Customers
from simulators.workloads.distributions import ks_distance
from simulators.workloads.fit_arrivals import dispersion
from simulators.workloads.generator import MixError, Plan, submissions
from simulators.workloads.shapes import Shape

DAY_S = 86_400
ALIKE_PAIRS = ("realtime_or_batch", "batch_or_training")
START_S = 1_748_736_000.0  # 2025-06-01, a Sunday
ASSUMED, FITTED = assumed.load(), fitted.load()


def made(count=None, **changes):
    plan = Plan(**({"seed": 7, "rate_per_s": 1.0, "from_s": START_S, "to_s": START_S + DAY_S} | changes))
    return list(islice(submissions(plan, ASSUMED, FITTED), count))


@pytest.fixture(scope="module")
def flat():
    """A day of some 43,000 requests with four in a hundred of each kind of trouble."""
    return made(rate_per_s=0.5, is_flat=True, ambiguous=0.04, malformed=0.04, impossible=0.04)


def sound(stream):
    return [each for each in stream if each.label["defect"] is None]


def test_the_same_seed_says_the_same_and_another_one_does_not():
    first, again, other = (json.dumps([e.line() for e in made(2000, seed=seed)]) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_the_end_changes_nothing_before_it_and_another_plan_has_other_keys():
    whole, part = made(), made(to_s=START_S + 3600)
    assert 0 < len(part) < len(whole)
    assert whole[: len(part)] == part
    keys = {each.idempotency_key for each in whole}
    assert len(keys) == len(whole)
    assert not keys & {each.idempotency_key for each in made(100, rate_per_s=2.0)}


def test_families_come_in_their_shares_and_in_order(flat):
    at = [each.at_s for each in flat]
    assert at == sorted(at)
    assert at[0] >= START_S
    assert at[-1] < START_S + DAY_S
    assert len(flat) == pytest.approx(0.5 * DAY_S, rel=0.03)
    counts = Counter(each.label["family"] for each in flat)
    for name, kind in ASSUMED.families.items():
        assert counts[name] == pytest.approx(kind.share * len(flat), rel=0.2), name


def test_labels_stand_beside_requests_and_not_in_them(flat):
    assert set(flat[0].line()) == {"submitted_at", "idempotency_key", "customer_id", "spec", "label"}
    hidden = {"family", "tier", "duration_s", "value_usd", "ambiguity", "defect", "value_usd_per_gpu_hour"}
    assert not hidden & {name for each in sound(flat) for name in each.spec}


def test_a_stated_class_is_seldom_wrong(flat):
    of_gpus = [each for each in sound(flat) if each.label["family"] != "mining"]  # orders for hashrate say it always
    stated = [each for each in of_gpus if "workload_type" in each.spec]
    wrong = sum(each.spec["workload_type"] != each.label["workload_type"] for each in stated)
    assert 0.25 < len(stated) / len(flat) < 0.5
    assert wrong / len(stated) == pytest.approx(ASSUMED.habits.states_wrong_type, abs=0.006)


def test_what_is_not_ambiguous_can_be_told_by_plain_rules(flat):
    for each in sound(flat):
        if each.label["ambiguity"] is None:
            assert told_by_rules(each.spec) == each.label["workload_type"], each


def told_by_rules(spec):
    if "hashrate_th_per_s" in spec["labels"]:
        return "bitcoin_mining"
    if spec.get("is_training"):
        return "model_training"
    return "ai_inference_realtime" if spec.get("max_latency_ms", 1e9) < 1000 else "ai_inference_batch"


def test_ambiguous_ones_fool_these_rules_often_and_state_no_class(flat):
    blurred = [each for each in flat if each.label["ambiguity"]]
    assert len(blurred) / len(flat) == pytest.approx(0.04, rel=0.1)
    assert not any("workload_type" in each.spec for each in blurred)
    fooled = [told_by_rules(each.spec) != each.label["workload_type"] for each in blurred]
    assert 0.3 < np.mean(fooled) < 0.95
    assert {each.label["ambiguity"] for each in blurred} >= {"latency_between", "batch_in_a_hurry", *ALIKE_PAIRS}


@pytest.mark.parametrize("pair", ALIKE_PAIRS)
def test_some_are_drawn_alike_for_both_classes(pair):
    stream = made(20_000, ambiguous=0.9, is_flat=True, rate_per_s=5.0, to_s=START_S + 10 * DAY_S)
    alike = [each for each in stream if each.label["ambiguity"] == pair]
    by_class = {}
    for each in alike:
        by_class.setdefault(each.label["workload_type"], []).append(each.spec)
    assert len(by_class) == 2
    one, other = by_class.values()
    bound = 1.7 * np.sqrt(1 / len(one) + 1 / len(other))
    for member in ("estimated_duration_s", "batch_size", "memory_gb", "interruptible", "max_latency_ms"):
        columns = [np.array([float(spec.get(member, -1)) for spec in specs]) for specs in (one, other)]
        assert ks_distance(*columns) < bound, member
    for each in alike:
        label = each.label
        assert label["value_usd"] == pytest.approx(
            label["value_usd_per_gpu_hour"] * label["duration_s"] / 3600, rel=0.01, abs=2e-6
        )


def test_wrong_ones_are_marked_and_wrong(flat):
    wrong = Counter(str(each.label["defect"]).partition(":")[0] for each in flat)
    assert wrong["malformed"] / len(flat) == pytest.approx(0.04, rel=0.1)
    assert wrong["impossible"] / len(flat) == pytest.approx(0.04, rel=0.1)
    for each in flat:
        kind, _, _ = str(each.label["defect"]).partition(":")
        assert is_well_formed(each.spec) is (kind != "malformed"), each
        if kind != "malformed":
            assert can_be_served(each) is (kind == "None"), each


def is_well_formed(spec):
    if not isinstance(spec, dict) or "gpus" in spec:
        return False
    if spec.get("workload_type", "model_training") not in {k.workload_type for k in ASSUMED.families.values()}:
        return False
    gpus, name = spec.get("gpu_count", 1), spec.get("model_name", "")
    try:
        datetime.fromisoformat(spec.get("deadline_at", "2025-06-01T00:00:00Z"))
    except ValueError:
        return False
    return (
        isinstance(gpus, int)
        and gpus > 0
        and len(name) < 200
        and isinstance(spec.get("is_training", False), bool)
        and spec["estimated_duration_s"] > 0
    )


def can_be_served(each):
    spec = each.spec
    deadline = spec.get("deadline_at")
    left_s = datetime.fromisoformat(deadline).timestamp() - each.at_s if deadline else np.inf
    gpu = ASSUMED.gpus.get(spec.get("gpu_type", "B200"))
    return (
        left_s >= spec["estimated_duration_s"]
        and gpu is not None
        and spec.get("memory_gb", 0) <= gpu.memory_gb
        and spec.get("gpu_count", 0) <= 50_000
        and spec.get("max_latency_ms", 1) >= 1
        and spec.get("max_usd_per_gpu_hour", 1) > 0.01
    )


def test_tiers_and_classes_pay_as_the_market_does(flat):
    by = {}
    for each in flat:
        label = each.label
        if label["family"] != "mining":
            by.setdefault((label["workload_type"], label["tier"]), []).append(label["value_usd_per_gpu_hour"])
    median = {key: float(np.median(values)) for key, values in by.items()}
    for kind in ("ai_inference_realtime", "ai_inference_batch"):
        assert median[kind, "free"] < median[kind, "enterprise"]
    assert (
        median["ai_inference_batch", "pro"] < median["model_training", "pro"] < median["ai_inference_realtime", "pro"]
    )
    values = [value for each in by.values() for value in each]
    assert 0.3 < min(values) < max(values) < 16.11  # the dearest offer of the rate card


def test_training_is_heavy_tailed_and_worth_is_price_times_time(flat):
    training = [each.label for each in flat if each.label["family"] == "training"]
    seconds = np.sort([label["duration_s"] for label in training])
    top = seconds[-len(seconds) // 20 :]
    assert top.sum() > 0.5 * seconds.sum()  # a twentieth of the jobs has most of the hours
    assert seconds[-1] <= 30 * DAY_S
    each = next(
        e for e in flat if e.label["family"] == "training" and e.label["defect"] is None and not e.label["ambiguity"]
    )
    label = each.label
    hours = label["duration_s"] / 3600 * each.spec["gpu_count"]
    assert label["value_usd"] == pytest.approx(label["value_usd_per_gpu_hour"] * hours, rel=1e-3)


@pytest.mark.parametrize(
    ("family", "quantity"),
    [("chat", "input_tokens"), ("code", "output_tokens"), ("training", "duration_s"), ("images", "duration_s")],
)
def test_sizes_in_the_stream_are_the_fitted_ones(flat, family, quantity):
    of_family = [each for each in sound(flat) if each.label["family"] == family]
    if quantity != "duration_s":
        of_family = [each for each in of_family if quantity in each.spec["labels"]]
    where = "label" if quantity == "duration_s" else "request"
    values = np.array(
        [float((each.label if where == "label" else each.spec["labels"])[quantity]) for each in of_family]
    )
    fit = FITTED.families[family].sizes[quantity].draw(np.random.default_rng(1).random(20_000))
    assert ks_distance(values, fit if where == "label" else np.maximum(np.round(fit), 1)) < 1.7 / np.sqrt(len(values))


def test_few_customers_ask_most_and_ask_again(flat):
    who = [each.customer_id for each in flat if each.label["family"] == "chat"]
    counts = np.sort(list(Counter(who).values()))[::-1]
    assert len(counts) > 300
    assert counts[: len(counts) // 10].sum() > 0.35 * counts.sum()
    again = np.mean([one == other for one, other in pairwise(who)])
    chance = np.square(counts / counts.sum()).sum()
    assert (again - chance) / (1 - chance) == pytest.approx(FITTED.customers.asks_again, abs=0.03)


def test_customers_keep_their_habits_whenever_they_are_met():
    by_time = [made(3000, from_s=START_S + n * DAY_S, to_s=START_S + (n + 1) * DAY_S) for n in range(2)]
    tiers = [{e.customer_id: e.label["tier"] for e in sound(stream)} for stream in by_time]
    both = set(tiers[0]) & set(tiers[1])
    assert len(both) > 100
    assert all(tiers[0][each] == tiers[1][each] for each in both)
    customers = Customers.make(7, 2000, ASSUMED, FITTED)
    heavy, others = customers.tier[:100], customers.tier[100:]
    assert (heavy == 2).mean() > 5 * (others == 2).mean()


def test_one_customer_alone_asks_for_everything():
    assert {e.customer_id for e in sound(made(500, customers=1))} == {"c000000"}


def arrivals_of(name, days, shape="steady", rate=0.05, calendar=None):
    process = Process(3, name, FITTED.families[name].arrivals, rate, calendar or Calendar(), Shape.parse(shape))
    return process.within(START_S, START_S + days * DAY_S)


def test_the_mean_rate_is_what_was_asked_for_and_bursts_are_more_than_chance():
    times = arrivals_of("recommender", 60)
    assert len(times) == pytest.approx(0.05 * 60 * DAY_S, rel=0.15)
    assert dispersion(times, 3600) > 20  # Poisson's is 1


def test_rates_follow_the_day_and_the_week():
    hours = tuple([0.1] * 12 + [1.9] * 12)
    times = arrivals_of("training", 28, calendar=Calendar(hours, weekend=0.5))
    second_half = (times % DAY_S >= DAY_S / 2).mean()
    assert second_half == pytest.approx(0.95, abs=0.02)
    days = np.bincount(((times - START_S) // DAY_S % 7).astype(int), minlength=7)
    assert days[[0, 6]].sum() / 2 == pytest.approx(0.5 * days[1:6].mean(), rel=0.2)  # it begins on a Sunday


def test_a_spike_stands_where_it_was_asked_for():
    plan = {
        "is_flat": True,
        "rate_per_s": 20.0,
        "to_s": START_S + 180,
        "shape": Shape.parse("spike:at=60,for=30,times=10"),
    }
    since = np.array([each.at_s - START_S for each in made(**plan)])
    inside = ((since >= 60) & (since < 90)).sum()
    assert inside == pytest.approx(20 * 10 * 30, rel=0.1)
    assert len(since) - inside == pytest.approx(20 * 150, rel=0.1)


@pytest.mark.parametrize(
    ("mix", "message"), [({"poker": 1.0}, "no such families"), ({"chat": 0.0}, "one must be above")]
)
def test_a_mix_that_cannot_be_made_is_refused(mix, message):
    with pytest.raises(MixError, match=message):
        made(1, mix=mix)


def test_a_mix_replaces_the_shares():
    assert {each.label["family"] for each in made(300, mix={"code": 2.0, "mining": 1.0})} == {"code", "mining"}


def test_memory_does_not_grow_with_the_stream():
    plan = Plan(7, 50.0, START_S, START_S + 30 * DAY_S)
    stream = submissions(plan, ASSUMED, FITTED)
    for _ in islice(stream, 20_000):
        pass
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(2):
            tracemalloc.reset_peak()
            for _ in islice(stream, 20_000):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 5_000_000


def test_assumptions_that_do_not_hold_together_are_refused(tmp_path):
    path = tmp_path / "own.yaml"
    text = assumed.PATH.read_text()
    for old, new in (
        ("share: 0.5\n", "share: 0.6\n"),
        ("seed_of_nothing", ""),
        ("peak_hour_utc: 20.0", "peak_hour_utc: 25"),
    ):
        path.write_text(text.replace(old, new) if new else text + "seed_of_nothing: 1\n")
        with pytest.raises(assumed.AssumedError, match="own"):
            assumed.load(path)
    with pytest.raises(assumed.AssumedError, match="No such file"):
        assumed.load(tmp_path / "none.yaml")
