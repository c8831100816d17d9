"""The Celery application of a worker: `celery -A hcp_pipelines.orchestration.celery_app worker`, as `hcp run celery-worker` does.

Its tasks are dagster-celery's; broker and results come by the environment (`spreading.celery_environment`).
"""

from dagster_celery.config import DEFAULT_CONFIG
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from hcp_pipelines.orchestration.spreading import QUEUE
from hcp_pipelines.settings import environment_value

app = make_app(
    {
        "broker": environment_value("HCP_CELERY_BROKER"),
        "backend": environment_value("HCP_CELERY_RESULTS"),
        "config_source": DEFAULT_CONFIG,
        "task_default_queue": QUEUE,
    }
)
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
