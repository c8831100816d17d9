"""`python -m tests.faults --steps N --seed S`: universes until so many steps are done; the first violation is shrunk and told."""

import argparse
import sys
import time

from tests.faults.explore import LASTS_S, play, report, shrink


def main() -> int:
    """0 all invariants held, 1 one did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument(
        "--steps", type=int, default=1_000_000, help="events handled by the loop, all universes together"
    )
    parser.add_argument(
        "--seed", default="1", help="of the first universe: SEED/0, SEED/1, …; with a slash, that one alone"
    )
    parser.add_argument("--lasts", type=float, default=LASTS_S, help="virtual seconds of faults in each")
    parser.add_argument("--bug", default="", help="seed one of the bugs of tests/faults/bugs.py")
    parser.add_argument("--scheduled", action="store_true", help="GPUs work for desired rows alone")
    arguments = parser.parse_args()
    return _soak(arguments)


def _soak(arguments: argparse.Namespace) -> int:
    from tests.faults.bugs import seeded

    steps, number, began_s = 0, 0, time.monotonic()
    with seeded(arguments.bug):
        while steps < arguments.steps:
            seed = arguments.seed if "/" in arguments.seed else f"{arguments.seed}/{number}"
            outcome = play(seed, arguments.lasts, is_scheduled=arguments.scheduled)
            steps, number = steps + outcome.steps, number + 1
            took_s = time.monotonic() - began_s
            if outcome.violations:
                _say(report(outcome, arguments.lasts).split("what happened")[0] + "shrinking …")
                _say(report(shrink(outcome, arguments.lasts, say=_say), arguments.lasts))
                return 1
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{steps:,} steps, {number} universes, {steps / took_s:,.0f} steps/s ")
            if "/" in arguments.seed:
                break
    _say(f"{steps:,} steps in {number} universes, {took_s:.0f} s, {steps / took_s:,.0f} steps/s: every invariant held")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
