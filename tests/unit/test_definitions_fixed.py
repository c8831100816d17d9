"""No run's configuration changes what a code location gives its assets: whoever reaches the UI can launch a run."""

import dagster as dg

from hcp_pipelines.definitions import control
from hcp_pipelines.orchestration.resources import Platform, fixed

EVIL = {"resources": {"platform": {"config": {"state_dir": "/tmp/evil"}}}}


def seen_by_a_run(platform) -> str:
    @dg.op
    def look(platform: Platform) -> str:
        return platform.state_dir

    @dg.job(resource_defs={"platform": platform}, executor_def=dg.in_process_executor)
    def looking():
        look()

    return looking.execute_in_process(run_config=EVIL).output_for_node("look")


def test_what_is_not_fixed_a_run_can_change():
    assert seen_by_a_run(Platform(state_dir="ours")) == "/tmp/evil"


def test_what_is_fixed_it_can_not():
    assert seen_by_a_run(fixed(Platform(state_dir="ours"))) == "ours"


def test_everything_of_control_is_fixed_and_the_default_io_manager_replaced():
    assert {"io_manager", "platform", "memory"} <= control.defs.resources.keys()
    assert [name for name, r in control.defs.resources.items() if not isinstance(r, dg.ResourceDefinition)] == []


def test_all_that_control_has_says_its_columns():
    graph = control.defs.resolve_asset_graph()
    ours = [graph.get(key) for key in graph.get_all_asset_keys() if graph.get(key).group_name != "default"]
    told = {node.key.to_user_string(): node.metadata.get("dagster/column_schema") for node in ours}
    assert len(told) > 30
    assert {name for name, schema in told.items() if schema is None or not schema.columns} == set()
    ticks = told["raw_hcp__price_ticks"]
    assert [(column.name, column.type) for column in ticks.columns[:2]] == [("id", "int8"), ("stream", "text")]
    orders = {column.name for column in told["hcp__directives"].columns}
    assert {"operator_overrides.scope", "lockouts.slots", "approvals.mw"} <= orders


def test_everything_of_control_says_what_it_is_for_and_whose():
    graph = control.defs.resolve_asset_graph()
    own = [graph.get(key) for key in graph.get_all_asset_keys()]
    ours = [node for node in own if node.group_name != "default"]  # the rest is named only, and the other location's
    assert [node.key for node in ours if not (node.description and node.owners and node.kinds)] == []
    repository = control.defs.get_repository_def()
    assert [sensor.name for sensor in repository.sensor_defs if not sensor.description] == []
    assert [schedule.name for schedule in repository.schedule_defs if not schedule.description] == []
