"""Which runs skip Dagster's queue: the tick's, and none that is only tagged as one."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dagster as dg

    from hcp_pipelines.orchestration.coordinator import is_tick


def test_a_tag_alone_makes_no_tick():
    tags = {"hcp/kind": "tick"}
    assert is_tick(dg.DagsterRun(job_name="tick_job", tags=tags))
    assert not is_tick(dg.DagsterRun(job_name="tick_job"))
    assert not is_tick(dg.DagsterRun(job_name="backtest_job", tags=tags))
