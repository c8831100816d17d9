"""Which of a month's calls perfect foresight obeys: of a few every choice is looked at, of more those that climbing finds.

What a call brings hardly hangs on the others: they lie hours apart, and only who sleeps when one begins ties them together. What
is paid for the month as a whole does, where one missed call forfeits it: all of them are looked at, whatever each brings.
"""

from collections.abc import Callable, Sequence
from itertools import chain, combinations

from hcp_pipelines.optimizer.backtest.mixed.response.calls import Call

Choice = tuple[Call, ...]
FEW = 4  # calls of a month: sixteen choices


def worth_most(calls: Sequence[Call], usd: Callable[[Choice], float]) -> Choice:
    """The calls that are worth most together; `usd` says what obeying some and no others comes to.

    Of more than a few the best of all, none, and those that bring most alone (as many as may be); then, as long as that
    brings something, one call more or one less.
    """
    if len(calls) <= FEW:
        return max(chain.from_iterable(combinations(calls, n) for n in range(len(calls), -1, -1)), key=usd)
    dearest = sorted(calls, key=lambda call: -usd((call,)))
    return _climbed(calls, max((_of(calls, dearest[:n]) for n in range(len(calls), -1, -1)), key=usd), usd)


def _climbed(calls: Sequence[Call], choice: Choice, usd: Callable[[Choice], float]) -> Choice:
    """From a choice on, call by call, until no single one brings more by being obeyed or let go."""
    best_usd, is_done = usd(choice), False
    while not is_done:
        is_done = True
        for call in calls:
            other = _of(calls, set(choice) ^ {call})
            if usd(other) > best_usd:
                choice, best_usd, is_done = other, usd(other), False
    return choice


def _of(calls: Sequence[Call], some: Sequence[Call] | set[Call]) -> Choice:
    """Some of these calls, in their order."""
    return tuple(call for call in calls if call in some)
