"""What a gateway asks of a facility's devices, whatever reaches them: seven members, behind which every driver stands.

The drivers are in `devices.bulk`, `devices.miner` and their neighbours; which of them a facility has is chosen in `edge.drivers`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.issues import ByIssue
from hcp_pipelines.domain.errors import DeviceUnreachableError
from hcp_pipelines.wire.slots import EMPTY, Slots


class Evidence(IntEnum):
    """What a device's power in a reading rests on."""

    NONE = 0  # nobody answered: the power is not a number
    MEASURED = 1  # the device's own supply measures it, or the site's channel tells it
    ESTIMATED = 2  # the firmware's estimate, from its profile
    INFERRED = 3  # from the mode and hashrate that the device reads back
    METERED = 4  # inferred, and squared with what its feeder's meter reads


@dataclass(frozen=True, slots=True)
class Reading:
    """Power of every slot at an instant, watts of IT load; NaN where nothing is known. `evidence` holds codes of `Evidence`.

    `issues`: which of the devices that answered have what is wrong by their model's limits. Hashrate, and the hottest
    temperature that a device tells of itself: NaN where one does not, None where none of them does.
    """

    simulated_at_s: float  # no sample in it is older
    values: npt.NDArray[np.float32]
    evidence: npt.NDArray[np.uint8] | None = None  # None: all measured
    issues: ByIssue = field(default_factory=dict)
    hot: Slots = field(default_factory=lambda: EMPTY)  # above the temperature at which their model has to stop
    hashrate_th_per_s: npt.NDArray[np.float32] | None = None
    temperature_celsius: npt.NDArray[np.float32] | None = None
    warm: npt.NDArray[np.uint8] | None = None  # the state for which something sleeps there; 255 nothing, or not known


OnReading = Callable[[Reading], None]
Sent = asyncio.Future[Any]  # what `send_state` gives is for `finish_state` alone


async def all_told(sent: Sent, who_was: str) -> tuple[Slots, Slots]:
    """(accepted, refused) of a command that a task tells, once it has. `who_was`: "the miners were", for the message.

    Raises:
        DeviceUnreachableError: the driver was closed meanwhile.
    """
    try:
        told: tuple[Slots, Slots] = await sent
    except asyncio.CancelledError:
        if not sent.cancelled():
            raise
        raise DeviceUnreachableError(f"{who_was} let go of before all were told") from None
    return told


class DeviceSite(Protocol):
    """A facility's devices. After a loss `connect` is called again."""

    @property
    def devices(self) -> int:
        """Number of slots; 0 before the first connection."""

    async def connect(self, power_period_ms: int) -> object:
        """Reach the devices; from now on readings come every so many real milliseconds, or as fast as they can be had.

        Raises:
            DeviceUnreachableError, DeviceReplyError: what is there can't be used.
        """

    async def closed(self) -> None:
        """Return when the connection has ended."""

    async def close(self) -> None:
        """Let go of the devices; idempotent."""

    def send_state(
        self, ref: UUID, assignment: int, state: int, slots: bytes, work: WorkloadSpec | None = None
    ) -> Sent:
        """Hand an absolute state over now; `slots` as `wire.slots.encode_slots` gives them.

        `work`: what is to run there; None, and for devices that run nothing of their own choice: as the driver is set up.

        Raises:
            DeviceUnreachableError: not connected.
        """

    async def finish_state(self, sent: Sent) -> tuple[Slots, Slots]:
        """(accepted, refused) slots of a state that was handed over. Refused are also devices that could not be reached.

        Raises:
            DeviceUnreachableError, DeviceReplyError: nothing is known about any of them.
        """

    async def read_states(self) -> npt.NDArray[np.uint8]:
        """The state that each device was last commanded into, as far as it tells; 255 where it does not."""
