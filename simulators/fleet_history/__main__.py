"""`python -m simulators.fleet_history --out FILE …`: months of a fleet's past as a parquet file; same arguments, same file."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from simulators.fleet_history.history import Past
from simulators.fleet_history.sites import sites
from simulators.settings import WorldConfigError
from simulators.streams import DAY_S


def main(arguments: list[str] | None = None) -> int:
    """Write the file; 2 where the arguments can't be used."""
    parser = argparse.ArgumentParser(prog="simulators.fleet_history", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the parquet file to write")
    parser.add_argument("--from", dest="start", type=_midnight, required=True, help="first day, UTC")
    parser.add_argument("--to", dest="end", type=_midnight, required=True, help="the day after the last one")
    parser.add_argument("--facilities", type=int, default=12)
    parser.add_argument("--devices", type=int, default=480, help="of a facility, on average")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--recorded", type=Path, help="a folder with recorded weather, prices and faults, found by columns"
    )
    given = parser.parse_args(arguments)
    if given.end - given.start < DAY_S or given.facilities < 1 or given.devices < 1:
        parser.error("at least one day, one facility and one device")
    past = Past(tuple(sites(given.facilities, given.devices)), given.start, given.end, given.seed, given.recorded)
    try:
        _write(past, given.out)
    except (OSError, WorldConfigError) as error:
        sys.stderr.write(f"fleet history: {error}\n")
        return 2
    return 0


def _write(past: Past, out: Path) -> None:
    import polars as pl

    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_suffix(".new")
    pl.concat(past.rows()).write_parquet(fresh)
    fresh.replace(out)


def _midnight(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())


if __name__ == "__main__":
    sys.exit(main())
