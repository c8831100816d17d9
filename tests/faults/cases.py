"""For each seeded bug the smallest universe found that needs the code to be right in just that: a seed, a schedule, a time."""

from dataclasses import dataclass

from tests.faults.explore import Outcome, play
from tests.faults.schedule import Happening

FACILITIES = ("fac-1", "fac-2", "fac-3")
GATEWAYS = ("gw-1", "gw-2")


SEEDS_TRIED = 8


@dataclass(frozen=True)
class Case:
    """A universe, made to measure; `calm_s` of it are left in peace at its end. `seed` is the first that is tried."""

    seed: int
    lasts_s: float
    schedule: tuple[Happening, ...] = ()
    calm_s: float = 15.0
    is_scheduled: bool = False

    def play(self, seed: str = "") -> Outcome:
        """What becomes of it."""
        seed = seed or str(self.seed)
        return play(seed, self.lasts_s, list(self.schedule), self.calm_s, is_scheduled=self.is_scheduled)

    def search(self, invariant: str) -> Outcome | None:
        """The first of a few universes in which an invariant breaks: what has to coincide does not in each."""
        for number in range(self.seed, self.seed + SEEDS_TRIED):
            outcome = self.play(str(number))
            if invariant in {v.invariant for v in outcome.violations}:
                return outcome
        return None


def _old_commands_come_late() -> tuple[Happening, ...]:
    """Commands that never arrived are delivered once another owns the facility."""
    found = []
    for owner, at_s in (("alloc-a", 15.98), ("alloc-b", 39.98)):
        found += [Happening(at_s, "cut link", f"{owner}>{gateway}", 9.0) for gateway in GATEWAYS]
        found.append(Happening(at_s + 2, "kill allocator", owner, 9.0))
        found += [Happening(at_s + 10 + n * 0.3, "repeat an old command", FACILITIES[n % 3]) for n in range(24)]
    return tuple(found)


def _stopped_in_mid_commit() -> tuple[Happening, ...]:
    """The only owner is stopped after a tick, for longer than its lease: a wave is journalled by then."""
    stops = (Happening(8.008 + 8.001 * n, "pause allocator", "alloc-b", 4.5) for n in range(5))
    return (Happening(3, "kill allocator", "alloc-a", 60.0), *stops)


def _sessions_end_in_mid_commit() -> tuple[Happening, ...]:
    """Commits are answered late, and every session ends shortly after a tick."""
    resets = (
        Happening(8.3 * n, "reset link", f"{a}>{g}")
        for n in range(1, 5)
        for a in ("alloc-a", "alloc-b")
        for g in GATEWAYS
    )
    return (Happening(1.5, "slow commits", "all", 38.0, 3.0), *resets)


def _each(at_s: float, what: str, for_s: float, amount: float) -> tuple[Happening, ...]:
    return tuple(Happening(at_s + n / 10, what, facility, for_s, amount) for n, facility in enumerate(FACILITIES))


def _killed(kind: str, for_s: float, *when: tuple[float, str]) -> tuple[Happening, ...]:
    return tuple(Happening(at_s, f"kill {kind}", name, for_s) for at_s, name in when)


def _handed_over_after_a_sale() -> tuple[Happening, ...]:
    """Prices end, reserves are sold, and who owns the facilities then may not take the policies of before."""
    kills = _killed("allocator", 3.0, (16, "alloc-a"), (17, "alloc-b"))
    return (Happening(9, "stop prices", "all", 100.0), *_each(10, "sell reserve", 20.0, 0.5), *kills)


def _cut_off_after_a_sale() -> tuple[Happening, ...]:
    """Reserves are armed when their gateways hear nobody any more."""
    alone = (Happening(26, "isolate gateway", name, 85.0) for name in ("gw-1", "gw-2"))
    return (*_each(10, "sell reserve", 100.0, 0.5), *alone)


def _refused_and_repeated(*meanwhile: Happening) -> tuple[Happening, ...]:
    """Commands come while the disk is full, and again when there is room."""
    again = (Happening(25 + n * 0.1, "repeat an old command", FACILITIES[n % 3]) for n in range(60))
    return (*_each(7, "fill disk", 13.0, 0.0), *meanwhile, *again)


def _slow_and_then_full() -> tuple[Happening, ...]:
    """Commands are stored after their deadline, when the disk takes nothing more."""
    curtailed = _each(12, "curtail", 40.0, 0.1)
    return (*_each(11.5, "slow disk", 35.0, 60.0), *curtailed, *_each(13, "fill disk", 30.0, 0.0))


def _leases_end_while_meters_are_read() -> tuple[Happening, ...]:
    """Armed reserves have their meters read twice a second; links are mute when the store goes, and the leases end."""
    mute = (Happening(20, "cut link", f"{a}>{g}", 8.0) for a in ("alloc-a", "alloc-b") for g in GATEWAYS)
    return (*_each(5, "sell reserve", 60.0, 0.5), *mute, Happening(20.3, "stop database", "all", 6.0))


GATEWAYS_RESTART = _killed("gateway", 1.0, (20.5, "gw-1"), (20.6, "gw-2"))

CASES = {
    "skip-fencing": Case(2, 55, _old_commands_come_late()),
    "accept-lower-epoch": Case(
        1, 30, (Happening(10, "pause allocator", "alloc-a", 6.0), Happening(20, "pause allocator", "alloc-b", 6.0))
    ),
    "ack-before-store": Case(2, 12),
    "send-before-journal": Case(2, 12),
    "send-in-next-session": Case(1, 40, _sessions_end_in_mid_commit()),
    "forget-predecessor": Case(1, 35, _killed("allocator", 3.0, (9, "alloc-a"), (17, "alloc-b"), (26, "alloc-a"))),
    "drive-without-booking": Case(1, 40),
    "drop-failures": Case(1, 20, _each(0.05, "devices stuck", 40.0, 4.0), calm_s=70.0),
    "energise-locked": Case(1, 30, _each(9, "lock", 20.0, 0.9)),
    "apply-again": Case(2, 65, _killed("gateway", 0.5, (30, "gw-1"), (31, "gw-2"), (60, "gw-1"))),
    "forget-late-commits": Case(1, 20, (Happening(0.5, "unheard commits", "all", 19.0, 3.0),), calm_s=100.0),
    "ignore-lease-deadline": Case(3, 46, _stopped_in_mid_commit(), calm_s=10.0),
    "forget-uncertain-commits": Case(4, 20, (Happening(7.9, "lose replies", "all", 1.0, 0.5),), calm_s=70.0),
    "ignore-floor": Case(2, 60, _each(20, "sell reserve", 60.0, 0.6)),
    "ignore-floor-alone": Case(1, 112, _cut_off_after_a_sale()),
    "trust-stale-prices": Case(1, 70, (Happening(9, "stop prices", "all", 60.0), *_each(60, "policy", 0.0, 0.0))),
    "need-a-policy": Case(1, 110, _handed_over_after_a_sale()),
    "hold-anew": Case(2, 125, (Happening(9, "stop prices", "all", 50.0), Happening(65, "stop prices", "all", 58.0))),
    "forget-refusals": Case(1, 30, _refused_and_repeated(), calm_s=70.0),
    "take-of-any-session": Case(1, 40, _refused_and_repeated(*GATEWAYS_RESTART), calm_s=70.0),
    "end-with-the-channel": Case(1, 30, _leases_end_while_meters_are_read()),
    "work-for-nobody": Case(1, 20, calm_s=15.0, is_scheduled=True),
    "keep-withdrawn-rows": Case(3, 10, _each(3, "desire", 60.0, 0.1), calm_s=90.0, is_scheduled=True),
    "leave-void-unsaid": Case(2, 50, _slow_and_then_full(), calm_s=70.0),
}  # fmt: skip
