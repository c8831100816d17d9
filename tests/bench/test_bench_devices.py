"""The world of `hcp bench devices`: a file that the simulators read, and the addresses that it gives its devices."""

from benchmarks.parts.device_world import DeviceWorld, address_of
from simulators import addresses
from simulators.settings import load_config


def test_the_world_is_one_that_the_simulators_take(tmp_path):
    world = DeviceWorld(tmp_path, 800, 16)
    config = load_config(tmp_path / "world.yaml")
    miners, gpus = config.sites[0].groups[:-1], config.sites[0].groups[-1]
    assert (sum(group.devices for group in miners), gpus.first_slot, gpus.devices) == (800, 800, 128)
    assert config.protocols.miners.port_4028 == world.miner_options().api_port
    world.end()


def test_a_device_has_the_address_of_its_slot():
    for slot in (0, 253, 254, 12_000, 13_039):
        assert address_of(slot) == addresses.address_of(0, slot)
