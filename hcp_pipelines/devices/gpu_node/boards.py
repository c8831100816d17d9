"""From the power that an exporter tells, the board's, to that of a slot, which has its share of the host: pure.

A ladder's power is a slot's. The host's share is not measured by anybody on the node, and grows with the load (fans, processors,
losses of the supplies), so it is put on a straight line between idle and full work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hcp_pipelines.devices.gpu_node.limits import limits_of
from hcp_pipelines.domain.modes import RESTING, DeviceState

IDLE_SHARE = 0.15  # of the board's limit that it draws idle (SM-04) …
BUSY_SHARE = 0.89  # … and at work, the middle of 0.80 to 0.98 (SM-03)


@dataclass(frozen=True, slots=True)
class Level:
    """A state of the group's ladder, and what one slot draws in it."""

    state: DeviceState
    power_w: float


@dataclass(frozen=True, slots=True)
class BoardPower:
    """What boards of a site draw idle and at work, watts; None: a share of the model's limit."""

    idle_w: float | None = None
    busy_w: float | None = None


def slot_watts(board_w: float, model: str, levels: Sequence[Level], boards: BoardPower) -> float:
    """A slot's IT power where its board draws so much.

    >>> ladder = (Level(DeviceState.IDLE, 450.0), Level(DeviceState.INFERENCE_BATCH, 1300.0))
    >>> [round(slot_watts(w, "NVIDIA H100 80GB HBM3", ladder, BoardPower())) for w in (52.5, 105.0, 623.0)]
    [225, 450, 1300]
    """
    limit_w = limits_of(model).max_power_w
    idle_board_w = boards.idle_w or IDLE_SHARE * limit_w
    busy_board_w = boards.busy_w or BUSY_SHARE * limit_w
    idle_w = max((one.power_w for one in levels if one.state in RESTING), default=0.0)
    busy_w = max(one.power_w for one in levels)
    if not 0.0 < idle_w < busy_w:
        return board_w * busy_w / busy_board_w
    if board_w <= idle_board_w:
        return board_w * idle_w / idle_board_w
    return idle_w + (board_w - idle_board_w) * (busy_w - idle_w) / (busy_board_w - idle_board_w)
