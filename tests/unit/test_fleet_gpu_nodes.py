"""GPU nodes in a facility file: what is refused, how long they may take, and what `hcp up` tells gateway and world of them."""

import stat

import pytest
import yaml

from hcp_pipelines.devices.many import ManySites
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.config import load_edge_config
from hcp_pipelines.edge.drivers import make_site, period_of
from hcp_pipelines.fleet.facility_file import dump_facility, parse_facility
from hcp_pipelines.fleet.site_export import world_protocols
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor import configuration
from simulators.settings import load_config
from simulators.token_file import read_token
from tests.support.fleet import inventory_of
from tests.support.miner_site import document

GROUPS = (("s21", "S21", "luxos", 3), ("h100", "H100 SXM5", "stock", 20))
LARGE = {"model": "large-70b", "weights_gib": 140, "load": "streamed", "gpus_each": 2}
BATCH, TRAINING, IDLE = DeviceState.INFERENCE_BATCH, DeviceState.TRAINING, DeviceState.IDLE


def site(groups=GROUPS, gpu_node=None, **miner_api):
    return document(groups, gpu_node, **miner_api)


def changed(**group):
    """The site's file with its GPU group changed, as its operator would write it."""
    raw = yaml.safe_load(dump_facility(site()))
    raw["groups"][1].update(group)
    return parse_facility(yaml.safe_dump(raw))


def test_a_node_needs_one_address_for_its_eight_gpus():
    assert site().groups[1].addresses == ("127.16.0.4", "127.16.0.12", "127.16.0.20")
    with pytest.raises(ConfigError, match="20 GPUs, 8 a node, and 2 addresses; it needs 3"):
        changed(addresses=["127.16.0.4", "127.16.0.12"])
    with pytest.raises(ConfigError, match=r"127\.16\.0\.2 is in group s21 and in group h100"):
        changed(addresses=["127.16.0.2", "127.16.0.12", "127.16.0.20"])
    with pytest.raises(ConfigError, match="miner_api drives ASICs"):
        changed(driver="miner_api")


def test_a_node_mines_nothing():
    with pytest.raises(ConfigError, match="in which no bitcoin is mined"):
        changed(states=[{"state": "mining_eco", "power_kw": 0.9}])
    with pytest.raises(ConfigError, match="a GPU loads nothing for idle"):
        parse_facility(dump_facility(site()).replace("workloads: {}", "workloads: {idle: {model: x}}"))


def test_weights_that_no_board_holds_are_refused():
    with pytest.raises(ValueError, match="140 GiB over 1 GPUs are 140 on each; H100 SXM5 of group h100 has 80"):
        site(gpu_node={"workloads": {"inference_batch": LARGE | {"gpus_each": 1}}})


def test_the_file_reads_back_as_it_was_written():
    made = site(gpu_node={"agent_port": 9500, "workloads": {"inference_batch": LARGE}})
    assert parse_facility(dump_facility(made)) == made


@pytest.mark.parametrize(
    ("states", "workloads", "deadlines_s"),
    [
        ([], {}, {IDLE: 50, BATCH: 150}),
        ([], {"inference_batch": {"weights_gib": 60}}, {IDLE: 50, BATCH: 150}),
        ([], {"inference_batch": LARGE}, {IDLE: 50, BATCH: 270}),
        ([{"state": "training", "power_kw": 1.35}], {}, {IDLE: 210, BATCH: 150, TRAINING: 390}),
        ([{"state": "inference_batch", "settle_s": 77}], {"inference_batch": LARGE}, {IDLE: 50, BATCH: 77}),
    ],
)
def test_deadlines_are_those_of_what_is_loaded(states, workloads, deadlines_s):
    raw = yaml.safe_load(dump_facility(site(gpu_node={"workloads": workloads})))
    raw["groups"][1]["states"] = states
    made = parse_facility(yaml.safe_dump(raw))
    ladder = inventory_of(made).groups[1].ladder
    assert {step.state: step.settle_s for step in ladder} == deadlines_s


def test_large_weights_count_for_nodes_alone():
    """A simulated site behind the bulk channel loads nothing."""
    raw = yaml.safe_load(dump_facility(site(gpu_node={"workloads": {"inference_batch": LARGE}})))
    raw["groups"][1].update(driver="bulk", addresses=[])
    assert inventory_of(parse_facility(yaml.safe_dump(raw))).groups[1].ladder[1].settle_s == 150


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path)


def configured(settings, *facilities):
    """World and gateway files as `hcp up` writes them, read by the programs that they are for."""
    inventories = [inventory_of(one) for one in facilities]
    configuration._write_world(settings, inventories)
    configuration._write_gateway(settings, "gateway-1", "unix:g.sock", inventories, 20.0)
    edge = load_edge_config(settings.at("edge", "gateway-1.yaml"))
    return load_config(settings.at("world", "world.yaml")), edge


def test_hcp_up_enables_what_the_file_asks_for(settings, tmp_path):
    nodes = {"agent_port": 9501, "exporter_interval_s": 10, "workloads": {"inference_batch": LARGE}}
    world, edge = configured(settings, site(gpu_node=nodes, api_port=4128, meters="127.16.255.1:5021"))
    own = world.protocols.gpu_nodes
    assert (own.enabled, own.exporter_port, own.agent_port, own.collect_s) == (True, 9400, 9501, 10)
    assert (world.protocols.miners.enabled, world.protocols.miners.port_4028) == (True, 4128)
    assert (world.protocols.modbus.enabled, world.protocols.modbus.port) == (True, 5021)
    facility = edge.facilities[0]
    driver = facility.driver_of(facility.groups[1])
    assert (driver.kind, driver.agent_port, driver.exporter_interval_s, driver.xid_actions) == (
        "gpu_node", 9501, 10, "act",
    )  # fmt: skip
    assert driver.work_in()[BATCH].model_dump() == LARGE
    assert driver.work_in()[TRAINING].weights_gib == 16
    assert [one.ramp_up_s for one in world.sites[0].groups[1].states] == [10, 10]
    both = make_site(facility, tmp_path / "edge", SystemClock(), 500, lambda _: None)
    assert type(both) is ManySites
    assert period_of(facility, 500, 1.0) == 10_000
    nodes = both._parts[1].site
    assert [(n.address, n.first_slot, n.gpus) for n in nodes.fleet.nodes] == [
        ("127.16.0.4", 3, 8), ("127.16.0.12", 11, 8), ("127.16.0.20", 19, 4),
    ]  # fmt: skip
    assert nodes._options.token.get_secret_value() == read_token("GPU nodes", own.token_file)


def test_the_token_is_generated_once_and_closed(settings):
    world, edge = configured(settings, site())
    path = settings.at("secrets", "gpu_agents_token")
    assert world.protocols.gpu_nodes.token_file == path == edge.facilities[0].groups[1].driver.token_file
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    assert len(before) > 30
    configured(settings, site())
    assert path.read_text() == before
    files = [settings.at("world", "world.yaml"), settings.at("edge", "gateway-1.yaml")]
    assert not any(before in one.read_text() for one in files)


def test_what_a_file_says_itself_holds(settings, tmp_path):
    (tmp_path / "mine").write_text("a token of mine")
    (tmp_path / "mine").chmod(0o600)
    named = {"token_file": str(tmp_path / "mine"), "xid_actions": "observe", "phase_within_s": {"start": 900.0}}
    world, edge = configured(settings, site(gpu_node=named))
    driver = edge.facilities[0].groups[1].driver
    assert world.protocols.gpu_nodes.token_file == driver.token_file == tmp_path / "mine"
    assert driver.xid_actions == "observe"
    assert (driver.phase_within_s.start, driver.phase_within_s.pause) == (900.0, 36.0)


def test_a_real_site_gets_no_token_of_ours_and_observes(tmp_path):
    real = Settings(state_dir=tmp_path, world="real")
    configuration._write_gateway(real, "gateway-1", "unix:g.sock", [inventory_of(site())], 20.0)
    driver = load_edge_config(tmp_path / "edge" / "gateway-1.yaml").facilities[0].groups[1].driver
    assert (driver.token_file, driver.xid_actions) == (None, "observe")
    assert not (tmp_path / "secrets").exists()


def test_without_such_drivers_nothing_is_enabled(settings):
    plain = parse_facility(
        dump_facility(site()).replace("driver: miner_api", "driver: bulk").replace("driver: gpu_node", "driver: bulk")
    )
    world, _ = configured(settings, plain)
    protocols = world.protocols
    assert [protocols.miners.enabled, protocols.gpu_nodes.enabled, protocols.modbus.enabled] == [False] * 3
    assert not settings.at("secrets", "gpu_agents_token").exists()


def test_files_that_disagree_on_a_port_are_refused():
    one = site(gpu_node={"agent_port": 9501})
    other = one.model_copy(
        update={"facility_id": "west-2", "gpu_node": one.gpu_node.model_copy(update={"agent_port": 9502})}
    )
    with pytest.raises(ConfigError, match=r"gpu_node.agent_port: 9501 \(west-1\), 9502 \(west-2\)"):
        world_protocols([inventory_of(one), inventory_of(other)])
