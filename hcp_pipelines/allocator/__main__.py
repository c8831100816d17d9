"""`python -m hcp_pipelines.allocator --name NAME`: an allocator process."""

import argparse
import sys

from hcp_pipelines.allocator.service import Allocator
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.runtime.process import ProcessContext, leave_start_up_alone, run_process
from hcp_pipelines.settings import Settings

MADE_BETWEEN = 50_000  # objects, between two looks of the garbage collector


async def body(context: ProcessContext, name: str) -> None:
    """Run the allocator."""
    allocator = Allocator(context, name)
    leave_start_up_alone(MADE_BETWEEN)
    await allocator.run()


def main() -> int:
    """The exit code: 0 stopped as asked, 2 a wrong setting, 1 anything else."""
    parser = argparse.ArgumentParser(prog="python -m hcp_pipelines.allocator")
    parser.add_argument("--name", required=True, help="the owner's name in leases and journal; one process a name")
    name = parser.parse_args().name
    try:
        settings = Settings.load()
    except HcpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return run_process(name, settings, lambda context: body(context, name))


if __name__ == "__main__":
    sys.exit(main())
