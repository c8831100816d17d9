"""The deterministic fault harness: it is repeatable, it shrinks, the code passes, and each seeded bug is found.

What is run here is short; `make soak-deterministic` runs as long as it is told.
"""

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.faults.bugs import BUGS, seeded
from tests.faults.cases import CASES, FACILITIES, GATEWAYS
from tests.faults.checker import check
from tests.faults.explore import play, report, shrink
from tests.faults.records import read_run
from tests.faults.schedule import Happening

SHORT_S = 60.0


def test_the_code_as_it_is_keeps_every_invariant():
    outcome = play("1", SHORT_S)
    assert outcome.violations == [], report(outcome, SHORT_S)
    assert outcome.steps > 20_000
    assert {j.event for j in outcome.run.journal} >= {"commanded", "acked", "settled"}


def test_where_work_is_scheduled_it_does_too():
    outcome = play("5", SHORT_S, is_scheduled=True)
    assert outcome.violations == [], report(outcome, SHORT_S)
    assert "workload" in {j.reason for j in outcome.run.journal}
    assert {s.owner for s in outcome.run.spans if s.what == "desired"} == {"ran out", "withdrawn"}


def test_a_seed_is_the_same_run_in_another_process_with_another_hash_seed():
    code = "from tests.faults.explore import play; print(play('7', 20, calm_s=10).digest)"
    done = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": n}, capture_output=True, text=True, check=True
        )
        for n in ("1", "2")
    ]
    assert done[0].stdout == done[1].stdout == f"{play('7', 20, calm_s=10).digest}\n"


def test_records_survive_their_file_and_are_judged_alike():
    run = play("4", 40, calm_s=30).run
    again = read_run(list(run.lines()))
    assert list(again.lines()) == list(run.lines())
    assert check(again) == check(run) == []


def test_a_write_that_ends_while_its_gateway_is_stopped_is_no_ack_before_it():
    slow = [Happening(1 + n / 10, "slow disk", facility, 40.0, 3.0) for n, facility in enumerate(FACILITIES)]
    stops = [
        Happening(4.0 + 8 * k + 0.9 * n, "pause gateway", g, 3.0) for k in range(4) for n, g in enumerate(GATEWAYS)
    ]
    outcome = play("2", 40, [*slow, *stops], calm_s=15.0)
    assert outcome.violations == [], report(outcome, 40)


@pytest.mark.parametrize("bug", BUGS)
def test_each_seeded_bug_is_found_for_what_it_is_and_without_it_nothing_is(bug):
    case = CASES[bug]
    with seeded(bug):
        found = case.search(BUGS[bug][1])
    assert found is not None, f"the checker sees nothing wrong: {BUGS[bug][1]}"
    clean = case.play(found.seed)
    assert clean.violations == [], report(clean, case.lasts_s)


def test_a_violation_shrinks_to_what_it_needs_and_is_told_readably():
    case = CASES["accept-lower-epoch"]
    noise = [Happening(3.0, "reset link", "alloc-a>gw-1"), Happening(4.0, "slow disk", "fac-2", 3.0, 0.2)]
    with seeded("accept-lower-epoch"):
        found = play(str(case.seed), case.lasts_s, sorted([*noise, *case.schedule], key=lambda h: h.at_s), case.calm_s)
        least = shrink(found, case.lasts_s, case.calm_s)
    assert [h.what for h in least.schedule] == ["pause allocator"]
    text = report(least, case.lasts_s)
    assert "one owner: alloc-" in text
    assert "pause allocator alloc-" in text
    assert "announced epoch 1, known was 2" in text


def test_the_checker_reads_epochs_and_not_the_order_in_which_they_were_sent():
    run = CASES["drive-without-booking"].play().run
    first = next(n for n, e in enumerate(run.entries) if e.kind == "command")
    run.entries[first] = replace(run.entries[first], epoch=run.entries[first].epoch + 5)
    assert "one owner" in {v.invariant for v in check(run)}
