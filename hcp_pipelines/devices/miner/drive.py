"""One command to one miner: remember what it is set to, tell it, read back mode and power."""

from hcp_pipelines.devices.miner.device import MinerDevice
from hcp_pipelines.devices.miner.evidence import is_there, state_of
from hcp_pipelines.devices.miner.profiles import ProfileStore
from hcp_pipelines.devices.miner.telemetry import Level, MinerGroup, Telemetry
from hcp_pipelines.domain.modes import DeviceState


async def drive(
    device: MinerDevice, address: str, level: Level, group: MinerGroup, profiles: ProfileStore, *, is_on_its_way: bool
) -> Telemetry:
    """Bring a miner into a state; what it read back afterwards.

    Nothing is sent to one that is there, nor to one that was told just now and says that it obeys: a second word would begin a
    warm-up anew.

    Raises:
        DeviceUnreachableError, DeviceRefusedError, DeviceReplyError, StorageError: it was not told.
    """
    before = await device.read_back()
    says_so = state_of(before, group.levels) == level.state
    if is_there(before, level, group.levels) or (is_on_its_way and says_so):
        return before
    if level.state is DeviceState.CURTAILED:
        profile = device.profile(before, group.levels)
        if profile is not None:
            await profiles.remember(address, profile)
        await device.sleep()
    else:
        await device.wake(level, profiles.recall(address), before)
    return await device.read_back()
