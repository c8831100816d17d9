"""An analyst beside the writers: every two seconds the last ten minutes, from the samples and from minutes. Run as a process.

Each pair of answers is a line of JSON on standard output: milliseconds of both, and how many samples were in the first.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from hcp_pipelines.storage.roles import Role

EACH_S = 2.0
TEN_MINUTES = """
    select facility_id, count(*), sum(power_kw), avg(temperature_celsius) from lake.raw.telemetry
    where sampled_at >= now() - interval 10 minutes group by facility_id"""
OF_MINUTES = """
    select facility_id, sum(samples), sum(power_kw_avg * power_kw_count) / sum(power_kw_count), avg(temperature_celsius_avg)
    from lake.core.telemetry_1min
    where minute_at >= (select max(minute_at) from lake.core.telemetry_1min) - interval 9 minutes group by facility_id"""


def main() -> int:
    """Ask until the file named is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("halt", type=Path)
    halt = parser.parse_args().halt
    with lake.attach(Settings.load(), Role.LAKE_READER, read_only=True) as connection:
        while not halt.exists():
            began_s = time.monotonic()
            found = connection.execute(TEN_MINUTES).fetchall()
            read_s = time.monotonic()
            connection.execute(OF_MINUTES).fetchall()
            done_s = time.monotonic()
            answer = {
                "ms": round((read_s - began_s) * 1000, 1),
                "minutes_ms": round((done_s - read_s) * 1000, 1),
                "rows": sum(row[1] for row in found),
            }
            print(json.dumps(answer), flush=True)
            time.sleep(max(EACH_S - (done_s - began_s), 0.1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
