"""`python -m simulators.workloads.lessons`: labelled submissions under many drawn assumptions, for a classifier to learn from.

A line is one of the generator's, with `setting`: which assumptions it comes of. None is malformed.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

from simulators.workloads import assumed, fitted
from simulators.workloads.generator import Plan, submissions
from simulators.workloads.variants import varied

START_S: Final = 1_748_736_000.0  # 2025-06-01
AMBIGUOUS: Final = 0.05


def lessons(seed: int, settings: int, count: int) -> Iterator[dict[str, Any]]:
    """So many submissions of each setting: ours first, then drawn ones."""
    ours = assumed.load()
    for number in range(settings):
        its = ours if number == 0 else varied(ours, seed * 1000 + number)
        plan = Plan(
            seed * 1000 + number,
            1.0,
            START_S,
            START_S + 1e7,
            is_flat=True,
            ambiguous=AMBIGUOUS,
            malformed=0.0,
            impossible=0.01,
        )
        for each in islice(submissions(plan, its, fitted.load()), count):
            yield {"setting": number} | each.line()


def main(words: list[str] | None = None) -> int:
    """0 when written."""
    parser = argparse.ArgumentParser(prog="python -m simulators.workloads.lessons", description="Labelled submissions.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--settings", type=int, default=20)
    parser.add_argument("--count", type=int, default=1500, help="of each setting")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(words)
    if arguments.settings < 1 or arguments.count < 1:
        parser.error(f"--settings {arguments.settings} and --count {arguments.count} must be 1 at least")
    with arguments.out.open("w") as file:
        file.writelines(
            json.dumps(line) + "\n" for line in lessons(arguments.seed, arguments.settings, arguments.count)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
