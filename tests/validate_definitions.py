"""`python -m tests.validate_definitions`, part of `make lint`: both code locations load, and control stays lean.

In one process: `dagster definitions validate` starts a server a location and takes twice as long.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

FORBIDDEN_IN_CONTROL = ("dbt", "dagster_dbt", "sklearn", "pandas", "pandera", "mlflow")


def main() -> int:
    """Validate; 0 when all is well."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="hcp-validate-") as folder:
        os.environ["HCP_STATE_DIR"] = folder
        return validate(Path(folder))


def validate(state_dir: Path) -> int:
    """Load control, look at what it imported, then load analytics with a freshly parsed manifest."""
    import dagster as dg

    from hcp_pipelines.definitions import control
    from hcp_pipelines.orchestration.dbt_project import ensure_manifest
    from hcp_pipelines.settings import Settings

    heavy = [name for name in FORBIDDEN_IN_CONTROL if name in sys.modules]
    if heavy:
        sys.stderr.write(f"control imports {', '.join(heavy)}: import it inside the function that needs it\n")
        return 1
    dg.Definitions.validate_loadable(control.defs)
    ensure_manifest(Settings(state_dir=state_dir))
    from hcp_pipelines.definitions import analytics

    dg.Definitions.validate_loadable(analytics.defs)
    sys.stdout.write(f"both code locations load; control imports none of {', '.join(FORBIDDEN_IN_CONTROL)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
