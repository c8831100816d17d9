"""A small code location for workers: the lake's maintenance as the analytics location has it, and nothing slow to import."""

import dagster as dg

from hcp_pipelines.orchestration.resources import Platform, fixed
from jobs.lake import lake_maintenance_job

defs = dg.Definitions(jobs=[lake_maintenance_job], resources={"platform": fixed(Platform())})
