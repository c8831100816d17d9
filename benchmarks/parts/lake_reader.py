"""An analyst beside the writers: one query over the last ten minutes of samples, every two seconds. Run as a process.

Each answer is a line of JSON on standard output: milliseconds, and how many rows were in it.
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


def main() -> int:
    """Ask until the file named is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("halt", type=Path)
    halt = parser.parse_args().halt
    with lake.attach(Settings.load(), Role.LAKE_READER, read_only=True, threads=1) as connection:
        while not halt.exists():
            began_s = time.monotonic()
            found = connection.execute(TEN_MINUTES).fetchall()
            took_s = time.monotonic() - began_s
            print(json.dumps({"ms": round(took_s * 1000, 1), "rows": sum(row[1] for row in found)}), flush=True)
            time.sleep(max(EACH_S - took_s, 0.1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
