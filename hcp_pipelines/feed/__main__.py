"""`python -m hcp_pipelines.feed`: listens to the markets and lands ticks in Postgres."""

import sys

from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.feed.service import run_feed
from hcp_pipelines.markets.capacity import places_of
from hcp_pipelines.markets.real import services_of
from hcp_pipelines.runtime.process import run_process
from hcp_pipelines.settings import Settings


def main() -> int:
    """The exit code: 0 stopped as asked, 2 a wrong setting, 1 anything else."""
    try:
        settings = Settings.load()
        services_of(settings.world, settings.markets_file)
        places_of(settings.clouds)
    except HcpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return run_process("feed", settings, run_feed)


if __name__ == "__main__":
    sys.exit(main())
