"""Fair shares in virtual time, without a database: the bounds of docs/queue.md, whatever others do."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from hcp_pipelines.workloads.fair import Candidate, Customer, Round, Rules, Share, charge, join, leave

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
WEIGHTS = dict(enumerate((50, 25, 15, 5, 3, 1, 1, 1, 1, 1), 1))
RULES = Rules(WEIGHTS, hold_after_s=3600, half_life_s=86_400)
LARGEST_GPU_S = 1000.0
WEEK_S = 7 * 86_400
TYPES = ("H100", "A100", "B300")

sizes = st.lists(st.floats(1, LARGEST_GPU_S), min_size=1, max_size=8)
levels = st.integers(1, 10)


class World:
    """A GPU of each type that serves a piece of work after the other; a piece is its GPU-seconds."""

    def __init__(self):
        self.customers, self.now, self.made = {}, NOON, 0

    def add(self, name, weight=1.0):
        number = len(self.customers)
        self.customers[name] = Customer(UUID(int=number), weight, 10**9, candidates={})
        return self.customers[name]

    def submit(self, name, level, gpu_s, gpu_count=1, types=("H100",)):
        self.made += 1
        work = Candidate(UUID(int=10_000 + self.made), level, types, gpu_count, gpu_s, self.now)
        self.customers[name].candidates.setdefault(level, []).append(work)

    def withdraw(self, name):
        self.customers[name].candidates.clear()

    def keep(self, name, level, gpu_s, **given):
        """Some of it always waits."""
        if not any(self.customers[name].candidates.values()):
            self.submit(name, level, gpu_s, **given)

    def come_and_go(self):
        """As claims do it, by what waits."""
        for customer in self.customers.values():
            for level, share in customer.levels.items():
                if not customer.candidates.get(level):
                    leave(share, self.now)
            waiting = [customer.levels.setdefault(n, Share()) for n, kept in customer.candidates.items() if kept]
            join(waiting, list(customer.levels.values()), self.now, RULES.half_life_s)
        for gpu_type in TYPES:
            self.come_and_go_for(gpu_type)

    def come_and_go_for(self, gpu_type):
        there = []
        for customer in self.customers.values():
            if any(gpu_type in work.gpu_types for kept in customer.candidates.values() for work in kept):
                there.append(customer.shares.setdefault(gpu_type, Share()))
            elif gpu_type in customer.shares:
                leave(customer.shares[gpu_type], self.now)
        present = [c.shares[gpu_type] for c in self.customers.values() if gpu_type in c.shares]
        join(there, present, self.now, RULES.half_life_s)

    def serve(self, gpu_type="H100"):
        """The next one as (name, work), or None; time goes on by what it takes."""
        self.come_and_go()
        free = {gpu_type: 1}
        picked = Round(list(self.customers.values()), RULES, free, free, self.now).pick(1)
        if not picked.chosen:
            return None
        [choice] = picked.chosen
        work = choice.candidate
        self.now += timedelta(seconds=work.gpu_s)
        return next(name for name, c in self.customers.items() if c.customer_id == choice.customer_id), work


adversary = st.one_of(
    st.tuples(st.just("submit"), levels, st.floats(1, LARGEST_GPU_S), st.integers(1, 20)),
    st.tuples(st.just("withdraw")),
)


@settings(max_examples=60, deadline=None)
@given(one=sizes, other=sizes, level=levels, weight=st.sampled_from([1, 4, 16]), moves=st.lists(adversary, max_size=60))
def test_two_that_wait_differ_by_at_most_twice_the_largest_work_whatever_a_third_does(one, other, level, weight, moves):
    world = World()
    for name in ("one", "other"):
        world.add(name, 4.0)
    world.add("adversary", float(weight))
    had = Counter()
    for step in range(150):
        for name, own in (("one", one), ("other", other)):
            if not any(world.customers[name].candidates.values()):
                world.submit(name, level, own[step % len(own)])
        if step < len(moves):
            action, *values = moves[step]
            if action == "withdraw":
                world.withdraw("adversary")
            else:
                for _ in range(values[2]):
                    world.submit("adversary", values[0], values[1])
        name, work = world.serve()
        had[name] += work.gpu_s
        assert abs(had["one"] - had["other"]) <= 2 * LARGEST_GPU_S


def test_the_same_for_a_week_with_a_third_that_comes_and_goes_by_the_hour():
    world = World()
    for name in ("one", "other", "adversary"):
        world.add(name)
    had, largest = Counter(), 3600.0
    while (world.now - NOON).total_seconds() < WEEK_S:
        hour = int((world.now - NOON).total_seconds() // 3600)
        if not any(world.customers["one"].candidates.values()):
            world.submit("one", 6, largest)
        if not any(world.customers["other"].candidates.values()):
            world.submit("other", 6, 50.0)
        if hour % 3 == 0:
            world.submit("adversary", 1 + hour % 10, 300.0 + hour % 7 * 100)
        elif hour % 3 == 1:
            world.withdraw("adversary")
        name, work = world.serve()
        had[name] += work.gpu_s
        assert abs(had["one"] - had["other"]) <= 2 * largest
    assert had["adversary"] > 0


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.tuples(st.sampled_from([1.0, 4.0, 16.0]), levels, sizes), min_size=2, max_size=5),
)
def test_a_turn_comes_back_before_the_others_have_had_their_weights_worth_of_the_last_charge(kinds):
    world = World()
    for number, (weight, _, _) in enumerate(kinds):
        world.add(number, weight)
    waited = dict.fromkeys(range(len(kinds)), 0.0)
    last_charge = dict.fromkeys(range(len(kinds)), 0.0)
    for step in range(300):
        for number, (_, level, own) in enumerate(kinds):
            if not any(world.customers[number].candidates.values()):
                world.submit(number, level, own[step % len(own)])
        name, work = world.serve()
        others = [weight * WEIGHTS[level] for number, (weight, level, _) in enumerate(kinds) if number != name]
        assert waited[name] <= last_charge[name] * sum(others) + LARGEST_GPU_S * len(others) + 1e-6
        waited = {number: so_far + work.gpu_s for number, so_far in waited.items()} | {name: 0.0}
        last_charge[name] = work.gpu_s / (kinds[name][0] * WEIGHTS[kinds[name][1]])


@settings(max_examples=60, deadline=None)
@given(used=st.floats(0, 1e6), floor=st.floats(0, 1e6), half_lives=st.floats(0, 10))
def test_who_comes_back_is_at_the_lowest_plus_what_is_left_of_its_debt(used, floor, half_lives):
    away = timedelta(seconds=half_lives * RULES.half_life_s)
    back, present = Share(used, left_at=NOON - away), Share(floor, is_backlogged=True)
    join([back], [back, present], NOON, RULES.half_life_s)
    expected = floor + max(used - floor, 0.0) * 0.5**half_lives
    assert abs(back.used - expected) <= 1e-6 * max(expected, 1.0)
    assert back.is_backlogged
    assert present.used == floor


def test_nobody_saves_up_while_away_even_when_all_have_left():
    world = World()
    for name in ("one", "late"):
        world.add(name)
    for _ in range(10):
        world.submit("one", 5, 100.0)
        world.serve()
    world.come_and_go()
    for _ in range(10):
        world.submit("one", 5, 100.0)
        world.submit("late", 5, 100.0)
    had = Counter(world.serve()[0] for _ in range(10))
    assert abs(had["one"] - had["late"]) <= 2


def test_levels_of_one_customer_take_turns_by_their_weights():
    world = World()
    world.add("one")
    for _ in range(60):
        for level in (4, 5, 10):
            world.submit("one", level, 10.0)
    had = Counter(world.serve()[1].level for _ in range(45))
    assert [had[level] for level in (4, 5, 10)] == [25, 15, 5]


def test_what_is_given_back_is_not_counted():
    customer = Customer(UUID(int=1), 4.0, 8, {"H100": Share(10.0)}, {3: Share(5.0)})
    charge(customer, "H100", 3, 600.0, RULES)
    charge(customer, "H100", 3, -600.0, RULES)
    assert (customer.shares["H100"].used, customer.levels[3].used) == (10.0, 5.0)


stuck = st.sampled_from(
    [
        {"gpu_count": 2},  # more than there are
        {"types": ("B300",)},  # of which none is ever free
        {"gpu_count": 2, "types": ("H100", "B300")},
    ]
)


@settings(max_examples=60, deadline=None)
@given(own=sizes, other=sizes, waits=stuck, level=levels, before=st.integers(1, 80))
def test_a_newcomer_gets_no_more_than_the_others_though_somebody_waits_for_what_never_fits(
    own, other, waits, level, before
):
    world = World()
    for name in ("stuck", "one", "late"):
        world.add(name)
    world.submit("stuck", level, LARGEST_GPU_S, **waits)
    for step in range(before):
        world.keep("one", level, own[step % len(own)])
        assert world.serve()[0] == "one"
    had = Counter()
    for step in range(60):
        world.keep("one", level, own[step % len(own)])
        world.keep("late", level, other[step % len(other)])
        name, work = world.serve()
        had[name] += work.gpu_s
        assert abs(had["one"] - had["late"]) <= 2 * LARGEST_GPU_S


@settings(max_examples=60, deadline=None)
@given(own=sizes, other=sizes, waits=stuck, level=levels, before=st.integers(1, 80))
def test_who_waits_for_what_never_fits_saves_nothing_up_for_what_does(own, other, waits, level, before):
    world = World()
    for name in ("sly", "one"):
        world.add(name)
    world.submit("sly", level, 1.0, **waits)
    for step in range(before):
        world.keep("one", level, own[step % len(own)])
        assert world.serve()[0] == "one"
    had = Counter()
    for step in range(60):
        world.keep("one", level, own[step % len(own)])
        world.submit("sly", level, other[step % len(other)])
        name, work = world.serve()
        had[name] += work.gpu_s
        assert abs(had["one"] - had["sly"]) <= 2 * LARGEST_GPU_S


@settings(max_examples=40, deadline=None)
@given(
    own=sizes, other=sizes, level=levels, turns=st.lists(st.sampled_from(["H100", "A100"]), min_size=60, max_size=150)
)
def test_what_is_used_of_another_type_of_gpu_changes_nothing_between_two_that_wait_for_one(own, other, level, turns):
    world = World()
    for name in ("one", "other", "elsewhere"):
        world.add(name)
    had = Counter()
    for step, gpu_type in enumerate(turns):
        world.keep("one", level, own[step % len(own)])
        world.keep("other", level, other[step % len(other)])
        world.keep("elsewhere", level, LARGEST_GPU_S, types=("A100",))
        name, work = world.serve(gpu_type)
        had[name] += work.gpu_s
        assert (name == "elsewhere") == (gpu_type == "A100")
        assert abs(had["one"] - had["other"]) <= 2 * LARGEST_GPU_S


def test_a_level_that_never_fits_keeps_no_other_of_its_customer_waiting():
    world = World()
    world.add("one")
    world.submit("one", 5, 100.0, gpu_count=2)
    for _ in range(50):
        world.submit("one", 6, 100.0)
        world.serve()
    for _ in range(20):
        world.submit("one", 6, 100.0)
        world.submit("one", 7, 100.0)
    had = Counter(world.serve()[1].level for _ in range(20))
    assert had[6] == had[7] == 10


def test_types_take_turns_and_work_that_names_none_goes_where_there_is_one():
    customers = [Customer(UUID(int=n), 1.0, 10**9, candidates={}) for n in range(3)]
    for number, types in enumerate((("H100",), ("A100",), ("A100", "H100"))):
        customers[number].levels[5] = Share(is_backlogged=True)
        customers[number].shares = {gpu_type: Share(is_backlogged=True) for gpu_type in types}
        customers[number].candidates[5] = [Candidate(UUID(int=100 + n), 5, types, 1, 10.0, NOON) for n in range(4)]
    picked = Round(customers, RULES, {"H100": 3, "A100": 3}, {}, NOON).pick(10)
    assert [c.gpu_type for c in picked.chosen] == ["A100", "H100"] * 3
    had = Counter((c.customer_id.int, c.gpu_type) for c in picked.chosen)
    assert {number for number, _ in had} == {0, 1, 2}
    assert set(had) >= {(2, "A100"), (2, "H100")}
