"""An explanation says which work stands behind a block, how much is not served, and what would serve it."""

import dataclasses
import json

from hcp_pipelines.optimizer.explain_page import page
from hcp_pipelines.optimizer.explain_words import lines_of, row_of
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.explaining import at_anchor
from tests.support.work import CLASSES, asked, gpus, held, inputs, job, miners, queue, site, solve_facility


def explained(work, price=30.0, groups=None, **more):
    [found] = asked([inputs(site(groups or [gpus(), miners()], **more), price)], work)
    return at_anchor(compile_policy(solve_facility(found)))


WORK = queue(
    held(1, kind=CLASSES[0], gpu_count=10, agreed=3.0),
    held(2, kind=CLASSES[2], gpu_count=32, agreed=1.5),
    held(3, kind=CLASSES[2], gpu_count=16, agreed=0.5),
    held(4, kind=CLASSES[2], gpu_count=16, agreed=0.4),
    job(5, kind=CLASSES[1], gpu_count=64),
    job(6, kind=CLASSES[1], gpu_count=8, gpu_type="B200"),
    job(7, kind=CLASSES[2], gpu_count=2, limit_usd_per_gpu_hour=1.25),
    spare=0.1,
)


def test_at_a_low_price_all_that_has_a_place_may_run_and_the_rest_has_none():
    found = explained(WORK)
    assert (found.work.asked_gpus, found.work.running_gpus, found.work.unserved) == (74, 74, ())
    lines = lines_of(found)
    assert "customers' work asks for 74 GPUs: 74 may run at this price" in lines
    whys = [line.split("have no place: ")[1] for line in lines if "have no place" in line]
    assert whys == [
        "no group can run it",
        "all such GPUs are taken, by work that pays 0.40 or more",
        "it is sold at 2.00, above what they pay at most",
    ]
    assert any(
        line.startswith("ai_inference_batch on H100: 1 in the whole queue, for 64 GPUs at 2.00 $/GPU-hour")
        for line in lines
    )
    plain = found.as_dict()["work"]
    assert json.loads(json.dumps(plain)) == plain | {"unserved": [], "unplaced": list(plain["unplaced"])}
    assert [each["gpus"] for each in plain["unplaced"]] == [8, 64, 2]


def test_at_a_high_price_it_says_below_which_one_the_rest_would_be_served():
    found = explained(WORK, 900.0)
    [left] = found.work.unserved
    assert (left.workload_type, left.gpus) == ("model_training", 32)
    assert 480 < left.first_below_usd_per_mwh < 500 > 400 > left.all_below_usd_per_mwh > 380
    words = next(line for line in lines_of(found) if line.startswith("model_training: 32 GPUs"))
    assert f"the first below {left.first_below_usd_per_mwh:.2f} $/MWh" in words
    served = explained(WORK, left.all_below_usd_per_mwh - 0.1)
    assert served.work.unserved == ()


def test_what_is_worth_the_price_and_finds_no_room_is_told_apart():
    found = explained(queue(job(1, gpu_count=50)), groups=[gpus()], capacity_mw=0.060)
    [left] = found.work.unserved
    assert (left.first_below_usd_per_mwh, left.gpus) == (None, 50 - found.work.running_gpus)
    assert found.work.running_gpus < 50
    assert any("find no room under the limits" in line for line in lines_of(found))


def test_blocks_say_whose_work_they_are_and_what_must_run_now():
    work = queue(job(1, due_in_s=3700.0, credit_fraction=0.25), held(2, gpu_count=4, agreed=2.5))
    found = explained(work)
    whys = [row_of(block)[-1] for block in found.blocks if block.group_id == "h100"]
    assert any("1 waiting, 2.00 $/GPU-hour, must run now for their deadlines" in why for why in whys)
    assert any("model_training: 1 running, 2.50 $/GPU-hour" in why for why in whys)
    assert all(block.worth_usd_per_mwh > 1000 for block in found.blocks if block.group_id == "h100")
    assert row_of(next(b for b in found.blocks if b.group_id == "s21"))[-1].startswith("on: the price is below")
    assert "must run now" in page(found)


def test_a_facility_without_work_says_nothing_of_it():
    found = explained(queue(), groups=[gpus(is_scheduled=False), miners()])
    assert found.work is None
    assert not any("customers' work" in line for line in lines_of(found))
    assert dataclasses.asdict(found)["work"] is None
