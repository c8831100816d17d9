"""`python -m hcp_pipelines.collector`: copies what the daemons write in Postgres to the lake."""

import sys

from hcp_pipelines.collector.service import run_collector
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.runtime.process import run_process
from hcp_pipelines.settings import Settings


def main() -> int:
    """The exit code: 0 stopped as asked, 2 a wrong setting, 1 anything else."""
    try:
        settings = Settings.load()
    except HcpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return run_process("collector", settings, run_collector)


if __name__ == "__main__":
    sys.exit(main())
