"""`python -m hcp_pipelines.api`: the HTTP API."""

import sys

from hcp_pipelines.api.service import run_api
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
    return run_process("api", settings, run_api)


if __name__ == "__main__":
    sys.exit(main())
