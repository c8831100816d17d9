"""`python -m simulators.workloads`: writes a stream of submissions as NDJSON, or sends it to an API (docs/workloads.md)."""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

from simulators.workloads import assumed, fitted
from simulators.workloads.generator import MixError, Plan, submissions
from simulators.workloads.requests import Submission
from simulators.workloads.shapes import Shape, ShapeError
from simulators.workloads.submit import Keys, SubmitError, Tally, Target, send


def main(words: list[str] | None = None) -> int:
    """0 done, 1 some were given up, 2 wrong arguments."""
    parser = _parser()
    arguments = parser.parse_args(words)
    try:
        stream = islice(submissions(_plan(arguments), assumed.load(arguments.assumed), fitted.load()), arguments.count)
        if arguments.submit is None:
            _write(stream, arguments.out)
            return 0
        return _submit(stream, arguments)
    except (assumed.AssumedError, MixError, ShapeError, SubmitError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _plan(arguments: argparse.Namespace) -> Plan:
    if arguments.to <= arguments.start:
        raise MixError(f"--to {arguments.to.isoformat()} is not after --from {arguments.start.isoformat()}")
    return Plan(
        arguments.seed, arguments.rate, arguments.start.timestamp(), arguments.to.timestamp(), arguments.customers,
        _mix(arguments.mix), Shape.parse(arguments.shape), arguments.flat,
        arguments.ambiguous, arguments.malformed, arguments.impossible,
    )  # fmt: skip


def _mix(text: str) -> dict[str, float]:
    parts = [part.partition("=") for part in text.split(",") if part]
    try:
        return {name.strip(): float(share) for name, _, share in parts}
    except ValueError as error:
        raise MixError(f"--mix {text!r} is not FAMILY=SHARE,…") from error


def _write(stream: Iterator[Submission], out: Path | None) -> None:
    with contextlib.ExitStack() as open_files:
        file = sys.stdout if out is None else open_files.enter_context(out.open("w"))
        try:
            for each in stream:
                file.write(json.dumps(each.line()) + "\n")
            file.flush()
        except BrokenPipeError:
            sys.stderr.close()  # the reader has seen enough; nothing more can be flushed


def _submit(stream: Iterator[Submission], arguments: argparse.Namespace) -> int:
    if arguments.key_file is None:
        raise SubmitError("--submit needs --key-file")
    target = Target(
        arguments.submit, Keys.read(arguments.key_file), arguments.speed, arguments.concurrency,
        arguments.timeout_s, arguments.attempts, arguments.patience_s,
    )  # fmt: skip
    tally = Tally()
    try:
        asyncio.run(send(stream, target, tally))
    except* SubmitError as errors:
        raise SubmitError(str(errors.exceptions[0])) from None
    finally:
        sys.stdout.write(json.dumps(tally.report()) + "\n")
    return 1 if tally.counts["given_up"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulators.workloads", description="Customers' submissions.")
    add = parser.add_argument
    add("--seed", type=int, default=7)
    add("--from", dest="start", type=_instant, required=True, help="2025-06-01T00:00Z")
    add("--to", type=_instant, required=True)
    add("--rate", type=_number(0.000001, 1e6), default=1.0, help="mean submissions a second")
    add("--count", type=_whole(0), help="no more than so many")
    add("--customers", type=_whole(1), default=2000)
    add(
        "--mix", default="", help="families and their shares, chat=0.5,training=0.5; those of the assumptions otherwise"
    )
    add(
        "--shape",
        default="steady",
        help="steady, step:at=60,times=5, spike:at=60,for=10,times=20, ramp:for=600,times=10",
    )
    add("--flat", action="store_true", help="Poisson, without day, week and bursts")
    for name, share in (("ambiguous", 0.08), ("malformed", 0.01), ("impossible", 0.01)):
        add(f"--{name}", type=_number(0, 1), default=share, help=f"share of them, {share}")
    add("--assumed", type=Path, default=assumed.PATH, help="another file of assumptions")
    add("--out", type=Path, help="a file instead of the standard output")
    add("--submit", metavar="URL", help="send them to an API instead")
    add("--key-file", type=Path, help="a key alone, or lines CUSTOMER KEY")
    add("--speed", type=_number(0.001, 1e6), help="simulated seconds a second; as fast as they are taken otherwise")
    add("--concurrency", type=_whole(1), default=64)
    add("--timeout-s", type=_number(0.01, 600), default=10.0)
    add("--attempts", type=_whole(1), default=8)
    add("--patience-s", type=_number(0, 86_400), default=120.0, help="of one submission, waits included")
    return parser


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an instant like 2025-06-01T00:00Z") from error
    if instant.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} needs an offset or Z")
    return instant


class _number:  # noqa: N801 (used as a type of argparse, named in its errors)
    """A number within limits."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most

    def __call__(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from error
        if not self._least <= value <= self._most:
            raise argparse.ArgumentTypeError(f"{text} is not within {self._least:g} and {self._most:g}")
        return value


class _whole(_number):  # noqa: N801
    """A whole number, not below a least."""

    def __init__(self, least: int) -> None:
        super().__init__(least, 1e9)

    def __call__(self, text: str) -> int:
        value = super().__call__(text)
        if value != int(value):
            raise argparse.ArgumentTypeError(f"{text} is no whole number")
        return int(value)


if __name__ == "__main__":
    sys.exit(main())
