"""The stream of submissions: every family's arrivals in one order, with the requests that they carry. Constant memory.

Pure: `simulators.workloads.__main__` writes the stream, `submit` sends it.
"""

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Final

import numpy as np

from simulators.streams import stream
from simulators.workloads.ambiguity import blurred
from simulators.workloads.arrivals import HOUR_S, Calendar, Process
from simulators.workloads.assumed import MINING, Assumed, Kind
from simulators.workloads.customers import Customers
from simulators.workloads.defects import spoilt
from simulators.workloads.distributions import Gaps
from simulators.workloads.fitted import Arrivals, FittedNumbers
from simulators.workloads.requests import Requests, Submission
from simulators.workloads.shapes import Shape

STEADY: Final = Arrivals(
    gaps=Gaps(together=0.0, weights=(1.0,), means=(1.0,)), window_s=HOUR_S, wander=0.0, wander_tau_s=HOUR_S
)


class MixError(ValueError):
    """A mix of families that can't be made; the message says why."""


@dataclass(frozen=True)
class Plan:
    """What is asked for. `mix` by family instead of the assumed shares; `is_flat`: without day, week and bursts."""

    seed: int
    rate_per_s: float
    from_s: float
    to_s: float
    customers: int = 2000
    mix: dict[str, float] = field(default_factory=dict)
    shape: Shape = field(default_factory=Shape)
    is_flat: bool = False
    ambiguous: float = 0.08
    malformed: float = 0.01
    impossible: float = 0.01


def submissions(plan: Plan, assumed: Assumed, fitted: FittedNumbers) -> Iterator[Submission]:
    """What is submitted in [from, to), in order.

    Raises:
        MixError: the mix names a family that isn't there, or has no share above 0.
    """
    mix = _mix(plan, assumed)
    customers = Customers.make(plan.seed, plan.customers, assumed, fitted)
    streams = [_family(plan, name, share, assumed, fitted, customers) for name, share in mix.items() if share > 0]
    return heapq.merge(*streams, key=itemgetter(0))


def _mix(plan: Plan, assumed: Assumed) -> dict[str, float]:
    """Shares by family, which add up to 1."""
    shares = plan.mix or {name: kind.share for name, kind in assumed.families.items()}
    unknown = sorted(set(shares) - set(assumed.families))
    if unknown:
        raise MixError(f"no such families: {', '.join(unknown)}; there are {', '.join(assumed.families)}")
    total = sum(shares.values())
    if total <= 0 or min(shares.values()) < 0:
        raise MixError(f"shares {shares} must not be below 0, and one must be above")
    return {name: share / total for name, share in shares.items()}


def _family(
    plan: Plan, name: str, share: float, assumed: Assumed, fitted: FittedNumbers, customers: Customers
) -> Iterator[Submission]:
    kind = assumed.families[name]
    measured = STEADY if name == MINING or plan.is_flat else fitted.families[name].arrivals
    calendar = Calendar() if plan.is_flat else _calendar(name, kind, assumed, fitted)
    process = Process(plan.seed, name, measured, plan.rate_per_s * share, calendar, plan.shape)
    requests = Requests(name, assumed, fitted, customers)
    random = stream(plan.seed, "requests", name, repr(plan.from_s))
    prefix, number = f"{_name_of(plan, assumed)}-{name}-", 0
    for times in process.times(plan.from_s):
        chance = random.random(len(times))
        rows = requests.rows(random, times)
        for at_s, luck, (customer, plain, label) in zip(times.tolist(), chance.tolist(), rows, strict=True):
            if at_s >= plan.to_s:
                return
            spec: Any = plain
            if luck < plan.malformed + plan.impossible:
                spec = spoilt(plain, label, at_s, random, is_malformed=luck < plan.malformed)
            elif luck > 1.0 - plan.ambiguous:
                spec = blurred(plain, label, random)
            yield Submission(at_s, f"{prefix}{number:x}", customer, spec, label)
            number += 1


def _name_of(plan: Plan, assumed: Assumed) -> str:
    """Of a stream, in idempotency keys: whatever its end, the same requests; another plan's are other ones."""
    text = f"{replace(plan, to_s=0.0)} {assumed.model_dump_json()}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _calendar(name: str, kind: Kind, assumed: Assumed, fitted: FittedNumbers) -> Calendar:
    """The fitted course of the day, its own or a borrowed one, turned so that its middle is at the assumed peak."""
    if name == MINING:
        return Calendar()
    profile = fitted.families[name].arrivals.profile or fitted.families[assumed.course_of_short_traces].arrivals.profile
    hours = np.asarray(profile)
    angle = np.angle((hours * np.exp(2j * np.pi * (np.arange(24) + 0.5) / 24)).sum())
    middle = float(angle) / (2 * np.pi) * 24
    turned = np.roll(hours, round(assumed.peak_hour_utc - middle))
    return Calendar(tuple(turned.tolist()), kind.weekend)
