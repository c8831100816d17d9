"""Launch runs by the instance's launcher and wait for them: `python -m tests.support.send_runs MODULE JOB COUNT`; prints JSON.

It imports what it needs at once, and sends when it reads a line: meanwhile the workers start.
"""

import json
import sys
import time

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.workspace.context import WorkspaceRequestContext

from hcp_pipelines.supervisor.processes import ROOT

DEADLINE_S = 600.0


def main() -> None:
    """Launch, wait, and tell of each run: status, tags, and what was logged of the worker."""
    module, job_name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    pointer = ModuleCodePointer(module, "defs", str(ROOT))
    job = pointer.load_target().resolve_job_def(job_name)
    origin = JobPythonOrigin(job_name, RepositoryPythonOrigin(sys.executable, pointer))
    sys.stdin.readline()
    with dg.DagsterInstance.get() as instance:
        ids = [instance.create_run_for_job(job, job_code_origin=origin).run_id for _ in range(count)]
        for run_id in ids:
            instance.launch_run(run_id, WorkspaceRequestContext.__new__(WorkspaceRequestContext))
        deadline = time.monotonic() + DEADLINE_S
        while not all(instance.get_run_by_id(i).is_finished for i in ids) and time.monotonic() < deadline:
            time.sleep(0.2)
        health = [instance.run_launcher.check_run_worker_health(instance.get_run_by_id(i)).status.value for i in ids]
        runs = [instance.get_run_by_id(i) for i in ids]
        logs = [[e.user_message for e in instance.all_logs(i)] for i in ids]
    told = [{"status": r.status.value, "tags": dict(r.tags), "log": log} for r, log in zip(runs, logs, strict=True)]
    sys.stdout.write(json.dumps({"runs": told, "health": health}))


if __name__ == "__main__":
    main()
