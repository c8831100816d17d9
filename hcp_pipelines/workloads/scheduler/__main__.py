"""`python -m hcp_pipelines.workloads.scheduler`: gives waiting work its devices, and follows it until it is over."""

import sys

from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.runtime.process import run_process
from hcp_pipelines.settings import Settings
from hcp_pipelines.workloads.scheduler.service import run_scheduler


def main() -> int:
    """The exit code: 0 stopped as asked, 2 a wrong setting, 1 anything else."""
    try:
        settings = Settings.load()
    except HcpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return run_process("scheduler", settings, run_scheduler)


if __name__ == "__main__":
    sys.exit(main())
