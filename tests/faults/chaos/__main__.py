"""`python -m tests.faults.chaos`: a platform of its own, chaos for some minutes, the verdict; exit code 1 on violations."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import yaml

from tests.faults.chaos.plan import Fault, lines_of, make_schedule, read_schedule, write_schedule
from tests.faults.chaos.prices import START, write_flapping
from tests.faults.chaos.soak import Report, chaos
from tests.support.platform import RunningPlatform, running_platform

FACILITIES = ("hou-1", "hub-1", "nor-1")
GATEWAYS = ("gateway-1", "gateway-2")
DEVICES, SPEED, EVERY_S = 180, 60, 2.2
RAMP_MW = 0.12  # of the 0.2 MW that a facility here draws: ramps bind


def main() -> int:
    """Run it."""
    asked = _arguments()
    schedule = (
        read_schedule(asked.schedule)
        if asked.schedule
        else make_schedule(asked.seed, asked.minutes * 60, asked.every, GATEWAYS, FACILITIES)
    )
    folder = Path(tempfile.mkdtemp(prefix="hcp-soak-"))
    write_schedule(folder / "schedule.ndjson", schedule)
    print(f"seed {asked.seed}: {len(schedule)} lines in {folder / 'schedule.ndjson'}", flush=True)
    if asked.show:
        print("\n".join(lines_of(schedule)))
    write_flapping(folder / "prices", asked.seed, 24 + asked.minutes * 3)
    environment = {
        "HCP_FACILITIES": str(len(FACILITIES)), "HCP_GATEWAYS": str(len(GATEWAYS)), "HCP_CLOCK_SPEED": str(SPEED),
        "HCP_WORLD": f"replay:{folder / 'prices'}",
    }  # fmt: skip
    arguments = ("--devices", str(DEVICES), "--from", START.isoformat())
    with running_platform(folder / "state", *arguments, **environment) as platform:
        platform.wait_ready(240)
        _tighten_ramps(platform)
        report = chaos(platform, schedule, asked.seed, folder)
    return _tell(report, asked.seed, folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults happen")
    parser.add_argument("--seed", type=int, default=1, help="gives the schedule")
    parser.add_argument("--every", type=float, default=EVERY_S, help="mean seconds between faults")
    parser.add_argument("--schedule", type=Path, help="replay this schedule (ndjson) instead of the seed's own")
    parser.add_argument("--show", action="store_true", help="print the schedule")
    return parser.parse_args()


def _tighten_ramps(platform: RunningPlatform) -> None:
    """Facility ramps that a small fleet runs into, so that they are worth judging."""
    for path in sorted((platform.state_dir / "facilities").glob("*.yaml")):
        document = yaml.safe_load(path.read_text())
        document["ramps"]["facility"] |= {"up_mw": RAMP_MW, "down_mw": RAMP_MW}
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        done = platform.hcp("facility", "apply", str(path))
        if done.returncode:
            raise SystemExit(f"{path}: {done.stderr}")
    platform.wait(lambda: all(str(RAMP_MW) in p.read_text() for p in _gateway_files(platform)), 60, "the ramps arrive")
    platform.wait_ready(120)


def _gateway_files(platform: RunningPlatform) -> list[Path]:
    return [platform.state_dir / "edge" / f"{name}.yaml" for name in GATEWAYS]


def _tell(report: Report, seed: int, folder: Path) -> int:
    summary = {"seed": seed, **report.as_dict()}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1))
    shown = summary | {"violations": len(report.violations)}
    for key, value in shown.items():
        print(f"{key:>18}: {value}")
    for one in report.violations[:20]:
        print(f"VIOLATED {one.invariant} {one.facility_id}: {one.text}")
    if report.violations:
        prefix: list[Fault] = report.prefix()
        write_schedule(folder / "prefix.ndjson", prefix)
        again = f"make soak SEED={seed} ARGS='--schedule {folder / 'prefix.ndjson'}'"
        print(f"the first breach comes after {len(prefix)} lines of the schedule; to try them again: {again}")
    print(json.dumps(shown))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
