"""What can go wrong with a device: the names, and nothing else.

When it does is in `fault_schedule`, which device has what now in `fault_state`, what it does to power, hashrate and commands in
`devices`. What a device *says* then is its protocol server's work.
"""

from typing import Final

# Miners.
BOARD_DROPOUT: Final = "board_dropout"  # one of its boards is dead
FAN_FAILURE: Final = "fan_failure"  # a fan stands still: the firmware stops hashing
STUCK: Final = "stuck"  # takes the command, reads it back as done, and stays as it was
LYING: Final = "lying"  # reports more than it hashes
FALSE_ACK: Final = "false_ack"  # says yes and does nothing
HUNG: Final = "hung"  # accepts TCP, never answers
UNREACHABLE: Final = "unreachable"  # refuses TCP
WRONG_WAKE: Final = "wrong_wake"  # wakes into another profile
NO_POOL: Final = "no_pool"  # wakes without a pool: draws little, hashes nothing
# GPUs.
THROTTLED: Final = "throttled"  # hot: clocks and power go down
ECC: Final = "ecc"  # memory errors
FALLEN_OFF_BUS: Final = "fallen_off_bus"  # XID 79: gone until the node restarts
NVLINK: Final = "nvlink"  # XID 74
NODE_LOST: Final = "node_lost"  # all GPUs of a node at once
XID: Final = "xid"  # an event in the driver's log without an effect of its own; the last one's code is kept
# Both.
POWER_LOST: Final = "power_lost"  # PDU, rack, feeder or site without power: 0 W
COOLING_LOST: Final = "cooling_lost"  # its cooling loop stands still

# XIDs that end the application on a GPU (NVIDIA's catalogue: RESTART_APP and all that take the GPU away from it).
APP_KILLERS: Final = frozenset({8, 13, 31, 32, 45, 46, 48, 62, 64, 69, 79, 94, 95, 109, 119, 120, 140})
BY_RESET: Final = (ECC, NVLINK, XID)  # mended by a GPU's reset; heat is not
BY_RESTART: Final = (*BY_RESET, FALLEN_OFF_BUS)  # … by the host's restart

XID_OF: Final = {FALLEN_OFF_BUS: 79, NVLINK: 74, ECC: 94}  # what goes with a fault that a scenario scripts
MINER_FAULTS: Final = (
    BOARD_DROPOUT, FAN_FAILURE, STUCK, LYING, FALSE_ACK, HUNG, UNREACHABLE, WRONG_WAKE, NO_POOL,
)  # fmt: skip
GPU_FAULTS: Final = (THROTTLED, ECC, FALLEN_OFF_BUS, NVLINK, NODE_LOST, XID)
FAULTS: Final = (*MINER_FAULTS, *GPU_FAULTS, POWER_LOST, COOLING_LOST)
