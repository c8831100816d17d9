"""One of the analysts of `hcp bench analysts`: a question every two seconds, of those below in turn. Run as a process.

Each answer is a line of JSON on standard output: the question, milliseconds, rows, or the error.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import duckdb

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.roles import Role

EACH_S = 2.0
QUESTIONS = {
    "power by facility, ten minutes of samples": """
        select facility_id, count(*), sum(power_kw), avg(temperature_celsius) from lake.raw.telemetry
        where sampled_at >= now() - interval 10 minutes group by facility_id""",
    "a facility's groups by minute": """
        select minute_at, group_id, power_kw, hashrate_th_per_s from lake.core.telemetry_group_1min
        where facility_id = (select min(facility_id) from lake.core.telemetry_group_1min) order by all""",
    "the hottest devices": """
        select facility_id, group_id, slot, max(temperature_celsius_max) as hottest from lake.core.telemetry_1min
        group by all order by hottest desc limit 20""",
    "who reports more than its power makes": """
        select facility_id, group_id, slot // 40 as rack, median(hashrate_th_per_s_avg / power_kw_avg) as th_per_kw
        from lake.core.telemetry_1min where power_kw_avg > 0 group by all order by th_per_kw desc nulls last limit 20""",
    "one device, sample by sample": """
        select simulated_at, power_kw, hashrate_th_per_s from lake.raw.telemetry
        where slot = 7 and sampled_at >= now() - interval 5 minutes order by all""",
    "minutes as they stood ten seconds ago": """
        select count(*), sum(samples) from lake.core.telemetry_1min at (timestamp => now() - interval 10 seconds)""",
}


def main() -> int:
    """Ask until the file named is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("halt", type=Path)
    parser.add_argument("number", type=int)
    arguments = parser.parse_args()
    names = list(QUESTIONS)
    with lake.attach(Settings.load(), Role.LAKE_READER, read_only=True, memory="256MB", threads=1) as connection:
        turn = arguments.number
        while not arguments.halt.exists():
            began_s = time.monotonic()
            print(json.dumps(ask(connection, names[turn % len(names)])), flush=True)
            turn += 1
            time.sleep(max(EACH_S - (time.monotonic() - began_s), 0.0))
    return 0


def ask(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, object]:
    """Put one question; what came of it."""
    began_s = time.monotonic()
    try:
        rows, error = len(connection.execute(QUESTIONS[name]).fetchall()), ""
    except duckdb.Error as failed:
        rows, error = 0, lake.without_secrets(failed)[:300]
    return {"question": name, "ms": round((time.monotonic() - began_s) * 1000, 1), "rows": rows, "error": error}


if __name__ == "__main__":
    sys.exit(main())
