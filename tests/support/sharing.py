"""Which process runs which tests: a file as a whole, and all that start a platform in one, so that no two run side by side.

Most of what takes long waits for most of its time: so there are more processes than cores, and the longest begin first.
(The marker that is meant for this, xdist_group, has no effect in the versions of the lock.)
"""

import os
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

PLATFORM = ("tests/scenarios/test_platform", "tests/scenarios/test_chaos")
LONGEST = (  # ten seconds and more beside others, longest first; what follows a fast clock not beside a platform's start
    "test_dbt_marts", "test_settlement_assets", "test_scheduler_killed", "test_billing", "test_collector_copy",
    "test_world_process", "test_dagster_history", "test_operators_end_to_end", "test_edge_miner_driver",
    "test_collector_process", "test_openadr_failures", "test_openadr_end_to_end", "test_grid_end_to_end", "test_scale_out",
    "test_harness", "test_workload_into_api", "test_forecasting_quantiles", "test_scheduler_and_owner",
    "test_training_assets", "test_bad_data", "test_training", "test_training_daemon", "test_dagster_forecasts",
    "test_queue_kills", "test_edge_gateway", "test_cli_operators", "test_workload_admission", "test_driver_kubernetes",
    "test_work_at_the_node", "test_history_publish", "test_api_fuzz", "test_api_accounts", "test_dagster_fleet",
    "test_discovery_chain", "test_telemetry_stream", "test_learnt_strikes", "test_bench_tick_to_ack", "test_storage_lake",
    "test_forecasting_leakage", "test_training_record", "test_obligations_at_the_meter", "test_backtest_relearn_leakage",
    "test_telemetry_rollups", "test_bench_failover", "test_cli_edge", "test_storage_external", "test_storage_embedded",
    "test_replayed_day",
)  # fmt: skip
TURN = {name: n for n, name in enumerate(LONGEST)}


class ByFile(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return PLATFORM[0] if nodeid.startswith(PLATFORM) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Of several processes one begins: in a fresh checkout it writes the byte code that the others then read.

    Beside each other each would compile all of the project and rewrite all of the tests, a quarter of a minute of CPU.
    """
    with Path(__file__).open() as file:
        if "PYTEST_XDIST_WORKER" in os.environ:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                flock(file, LOCK_SH)
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Platforms, then the longest files, then the others as they come."""
    items.sort(key=lambda item: -1 if item.nodeid.startswith(PLATFORM) else TURN.get(item.path.stem, len(TURN)))
