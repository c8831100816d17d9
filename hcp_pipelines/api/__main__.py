"""`python -m hcp_pipelines.api`: the HTTP API."""

import sys

from hcp_pipelines.api.service import run_api
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.runtime.process import ProcessContext, leave_start_up_alone, run_process
from hcp_pipelines.settings import Settings

MADE_BETWEEN = 10_000  # objects, between two looks of the garbage collector: a millisecond in some hundred requests


async def body(context: ProcessContext) -> None:
    """Run the API."""
    await run_api(context, lambda: leave_start_up_alone(MADE_BETWEEN))


def main() -> int:
    """The exit code: 0 stopped as asked, 2 a wrong setting, 1 anything else."""
    try:
        settings = Settings.load()
    except HcpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return run_process("api", settings, body)


if __name__ == "__main__":
    sys.exit(main())
