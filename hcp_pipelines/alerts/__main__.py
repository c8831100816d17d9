"""`python -m hcp_pipelines.alerts`: watches the platform and tells people outside this machine."""

import sys

from hcp_pipelines.alerts.service import check_settings, run_alerts
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.runtime.process import run_process
from hcp_pipelines.settings import Settings


def main() -> int:
    """The exit code: 0 stopped as asked, 2 a wrong setting, 1 anything else."""
    try:
        settings = Settings.load()
        check_settings(settings)
    except HcpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return run_process("alerts", settings, run_alerts)


if __name__ == "__main__":
    sys.exit(main())
