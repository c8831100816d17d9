"""What an estimate is worth: low ones gain no GPU-time beyond what is held before the first of them is found out."""

import heapq
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.workloads.estimates import Word, charge_of
from hcp_pipelines.workloads.fair import Candidate, Customer, Round, Rules, Share, charge

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
RULES = Rules(dict.fromkeys(range(1, 11), 1.0), hold_after_s=3600, half_life_s=86_400)
PROOF_GPU_S = 3600.0
GPUS, RUN_S, WEEK_S = 8, 3600.0, 7 * 86_400.0
spans = st.floats(1e-3, 1e7)


class Hall:
    """Eight GPUs that two customers always want more of; both run for an hour, and one of them says that it will be a second."""

    def __init__(self, said_s, typical_s):
        self.said_s, self.typical_s, self.now_s = said_s, typical_s, 0.0
        self.customers = {name: Customer(UUID(int=n), 1.0, 10**9) for n, name in enumerate(said_s)}
        for customer in self.customers.values():
            customer.shares["H100"], customer.levels[5] = Share(is_backlogged=True), Share(is_backlogged=True)
        self.words = dict.fromkeys(said_s, Word())
        self.running = []  # (ends at, order, name, began at, charged so far)
        self.had, self.made = Counter(), 0

    def expected(self, name):
        word = self.words[name].faded(self.now(), RULES.half_life_s)
        return charge_of(self.said_s[name], 1, 0.0, self.typical_s, word, PROOF_GPU_S)

    def now(self):
        return NOON + timedelta(seconds=self.now_s)

    def fill(self):
        for name, customer in self.customers.items():
            gpu_s = self.expected(name)
            customer.candidates = {
                5: [Candidate(UUID(int=self.made + n), 5, ("H100",), 1, gpu_s, self.now()) for n in range(GPUS)]
            }
        free = {"H100": GPUS - len(self.running)}
        for choice in Round(list(self.customers.values()), RULES, free, free, self.now()).pick(GPUS).chosen:
            self.made += 1
            name = next(name for name, c in self.customers.items() if c.customer_id == choice.customer_id)
            ends_s = self.now_s + RUN_S * (1 + self.made % 7 / 100)  # so that they don't all end at once
            heapq.heappush(self.running, [ends_s, self.made, name, self.now_s, choice.candidate.gpu_s])

    def step(self):
        """To the next end; what runs is charged as it runs, and settled and judged when it ends."""
        then_s = self.running[0][0]
        for work in self.running:
            self.had[work[2]] += then_s - self.now_s
        self.now_s = then_s
        _, _, name, began_s, charged = heapq.heappop(self.running)
        self.settle(name, then_s - began_s - charged)
        ran_s = then_s - began_s
        word = self.words[name].faded(self.now(), RULES.half_life_s)
        said = word.said_gpu_s + min(self.said_s[name], ran_s)
        self.words[name] = Word(said, word.ran_gpu_s + ran_s, self.now())
        for work in self.running:
            over = self.now_s - work[3] - work[4]
            if over > 0:
                self.settle(work[2], over)
                work[4] += over

    def settle(self, name, gpu_s):
        charge(self.customers[name], "H100", 5, gpu_s, RULES)


def gaps(hall):
    """The service gap, honest less liar, after each end for a week."""
    while hall.now_s < WEEK_S:
        hall.fill()
        hall.step()
        yield hall.had["honest"] - hall.had["liar"]


def test_where_it_is_known_what_such_work_takes_a_low_estimate_gains_nothing():
    largest = RUN_S * 1.06
    assert max(map(abs, gaps(Hall({"honest": RUN_S, "liar": 1.0}, typical_s=RUN_S)))) <= 2 * largest


def test_who_is_found_out_has_gained_at_most_what_it_held_till_then():
    hall = Hall({"honest": RUN_S, "liar": 1.0}, typical_s=0.0)
    largest, held_s = RUN_S * 1.06, GPUS * RUN_S * 1.06
    found = list(gaps(hall))
    assert max(map(abs, found)) <= held_s + 2 * largest
    assert max(map(abs, found[len(found) // 10 :])) <= 3 * largest, "and gains no more from then on"
    assert hall.words["liar"].ratio(PROOF_GPU_S) > 1000


def test_an_honest_word_costs_nothing():
    hall = Hall({"honest": RUN_S, "other": RUN_S}, typical_s=60.0)
    for _ in range(100):
        hall.fill()
        hall.step()
    assert hall.expected("honest") == pytest.approx(RUN_S, rel=0.07)


@settings(max_examples=100, deadline=None)
@given(said_s=spans, count=st.integers(1, 64), used=st.floats(0, 1e9), typical_s=spans, said=spans, ran=spans)
def test_a_charge_is_never_less_than_what_was_said_or_is_usual_and_is_left(said_s, count, used, typical_s, said, ran):
    word = Word(min(said, ran), ran)
    charged = charge_of(said_s, count, used, typical_s, word, PROOF_GPU_S)
    assert charged >= max(said_s * count - used, 1.0)
    if ran < PROOF_GPU_S:
        assert charged >= typical_s * count - used
    assert charge_of(said_s, count, used, typical_s, Word(ran, ran), PROOF_GPU_S) <= charged * (1 + 1e-9) or used > 0


@settings(max_examples=100, deadline=None)
@given(said=spans, ran=spans, more=spans)
def test_only_real_use_redeems_a_word(said, ran, more):
    word = Word(min(said, ran), ran)
    honest = Word(word.said_gpu_s + more, word.ran_gpu_s + more)
    assert word.ratio(PROOF_GPU_S) >= 1.0
    assert honest.ratio(PROOF_GPU_S) <= max(honest.ran_gpu_s / honest.said_gpu_s, 1.0) + 1e-9
    week_later = word.faded(NOON + timedelta(days=7), RULES.half_life_s)
    assert week_later == word, "nothing has been judged: nothing fades"
    judged = Word(word.said_gpu_s, word.ran_gpu_s, NOON).faded(NOON + timedelta(days=7), RULES.half_life_s)
    assert judged.ratio(PROOF_GPU_S) <= word.ratio(PROOF_GPU_S) + 1e-9
