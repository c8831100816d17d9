"""`hcp bench switch`: what its figures are of, and a world in which there is something to switch."""

from benchmarks.parts.device_world import DeviceWorld
from benchmarks.switch import LADDER, NEXT, TOKEN, figures
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.switches import Outcome, Phase, Stage, Switch
from hcp_pipelines.domain.modes import DeviceState
from simulators.settings import load_config

BATCH, TRAINING = DeviceState.INFERENCE_BATCH, DeviceState.TRAINING


def switch(number, outcome=Outcome.SWITCHED, **changes):
    phases = {Phase.PAUSE: float(number), Phase.SWITCH: 2.0, Phase.START: 3.0}
    return Switch(
        "c", 0, "n", (number,), BATCH, WorkloadSpec(), (number,), TRAINING, None, Stage.OVER, outcome,
        changes.get("phases", phases), {Phase.START: 60_000.0 + number * 1000}, 10.0 * number,
    )  # fmt: skip


def test_figures_are_percentiles_of_phases_of_the_whole_and_of_the_devices_own_time():
    found = figures([switch(n) for n in range(1, 100)] + [switch(100, Outcome.RESTED)], 10.0)
    assert (found["switches"], found["outcome_switched"], found["outcome_rested"], found["failed"]) == (100, 99, 1, 1)
    assert (found["control_p50_ms"], found["control_p95_ms"], found["control_p99_ms"]) == (500.0, 950.0, 990.0)
    assert (found["pause_p95_ms"], found["checkpoint_p95_ms"]) == (95.0, None), "nothing was checkpointed"
    assert (found["device_start_p50_s"], found["device_start_p95_s"]) == (110.0, 155.0)
    assert found["device_p95_ms"] == 155_000.0


def test_its_world_has_gpus_that_take_commands_and_go_round_all_their_work(tmp_path):
    DeviceWorld(tmp_path, 4, 2, LADDER, TOKEN)
    config = load_config(tmp_path / "world.yaml")
    gpus = config.sites[0].groups[-1]
    assert {state.state for state in gpus.states} == {1, *NEXT}
    assert config.protocols.gpu_nodes.token_file.read_text() == TOKEN
    assert set(NEXT) == set(NEXT.values())
