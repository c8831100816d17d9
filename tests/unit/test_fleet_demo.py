"""The demo fleet whose GPUs belong to the scheduler: the same site, other work."""

from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.groups import AI_STATES


def test_gpus_of_a_scheduled_demo_do_every_class_of_work_within_the_same_limits():
    for plain, scheduled in zip(demo_facilities(3, 600), demo_facilities(3, 600, scheduled=True), strict=True):
        assert (plain.capacity_mw, plain.feeders) == (scheduled.capacity_mw, scheduled.feeders)
        assert not any(group.scheduled for group in plain.groups)
        gpus = [group for group in scheduled.groups if group.scheduled]
        assert [group.group_id for group in gpus] == ["h100"]
        ladder = gpus[0].resolved().ladder
        assert {step.state for step in ladder} == {DeviceState.IDLE, *AI_STATES}
        most = next(group for group in plain.groups if group.group_id == "h100").resolved().ladder[-1]
        assert ladder[-1].power_kw == most.power_kw
