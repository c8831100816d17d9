"""What a device can be doing: modes, and the one-byte state code used by policy, wire, journal and drivers.

A *mode* is the platform's word (DESIGN §5); a *state* is a mode with its power profile, which is what a
device can be commanded into. No physics and no prices here.
"""

from enum import IntEnum, StrEnum


class Mode(StrEnum):
    """The workload class a device serves, or why it serves none."""

    BITCOIN_MINING = "bitcoin_mining"
    AI_INFERENCE_REALTIME = "ai_inference_realtime"
    AI_INFERENCE_BATCH = "ai_inference_batch"
    MODEL_TRAINING = "model_training"
    IDLE = "idle"
    CURTAILED = "curtailed"


class DeviceState(IntEnum):
    """Absolute state of a device: a mode with its power profile; the value is its code on the wire."""

    CURTAILED = 0
    IDLE = 1
    MINING_ECO = 2
    MINING_FULL = 3
    INFERENCE_REALTIME = 4
    INFERENCE_BATCH = 5
    TRAINING = 6

    @property
    def mode(self) -> Mode:
        """The mode this state belongs to."""
        return _MODE_OF_STATE[self]

    @property
    def label(self) -> str:
        """A short lower-case name, as used in files and tables: `mining_full`."""
        return self.name.lower()


STATE_COUNT = len(DeviceState)
RESTING = (DeviceState.CURTAILED, DeviceState.IDLE)  # no work runs

_MODE_OF_STATE = {
    DeviceState.CURTAILED: Mode.CURTAILED,
    DeviceState.IDLE: Mode.IDLE,
    DeviceState.MINING_ECO: Mode.BITCOIN_MINING,
    DeviceState.MINING_FULL: Mode.BITCOIN_MINING,
    DeviceState.INFERENCE_REALTIME: Mode.AI_INFERENCE_REALTIME,
    DeviceState.INFERENCE_BATCH: Mode.AI_INFERENCE_BATCH,
    DeviceState.TRAINING: Mode.MODEL_TRAINING,
}


class ResourceType(StrEnum):
    """Kind of silicon, as REQUIREMENTS FD-24 names it."""

    GPU = "GPU"
    ASIC = "ASIC"
    CPU = "CPU"


class ControlMode(StrEnum):
    """How far the platform may go on its own at a facility (DESIGN §7.5)."""

    OBSERVE = "observe"
    APPROVE = "approve"
    AUTO = "auto"


class DispatchRegime(StrEnum):
    """Who moves the load: our ticks, ERCOT's base points, or block demand response (DESIGN §6)."""

    SELF = "self"
    CLR_BASE_POINT = "clr_base_point"
    BLOCK_DR = "block_dr"


class ReasonCode(StrEnum):
    """Why a switch, a hold or a refusal happened; each journal row carries one."""

    ECONOMICS = "economics"
    GUARD = "guard"
    HOLD_STALE_PRICE = "hold_stale_price"
    FALLBACK_PLAN = "fallback_plan"
    RECOVERY = "recovery"
    POLICY_EXPIRED = "policy_expired"
    RAMP_CONTINUATION = "ramp_continuation"
    RECONCILE = "reconcile"
    WORKLOAD = "workload"
    RE_DRIVE = "re_drive"
    OPERATOR_OVERRIDE = "operator_override"
    OPERATOR_CURTAILMENT = "operator_curtailment"
    EMERGENCY_STOP = "emergency_stop"
    DEMAND_RESPONSE = "demand_response"
    GRID_DEPLOYMENT = "grid_deployment"
    LOCKOUT = "lockout"
    LOCAL_SAFETY = "local_safety"
    SHED_BY_RELAY = "shed_by_relay"


class RefusalCode(StrEnum):
    """Why a gateway or an allocator refused something."""

    OLD_EPOCH = "old_epoch"
    EPOCH_TOO_HIGH = "epoch_too_high"
    WRONG_GENERATION = "wrong_generation"
    DEADLINE_PASSED = "deadline_passed"
    UNKNOWN_FACILITY = "unknown_facility"
    UNKNOWN_SLOT = "unknown_slot"
    STATE_NOT_SUPPORTED = "state_not_supported"
    LOCKED = "locked"
    HELD = "held"
    UNSAFE = "unsafe"
    NOT_ALLOWED = "not_allowed"
    REPLAYED = "replayed"
    DEVICE_UNREACHABLE = "device_unreachable"
    BAD_MESSAGE = "bad_message"
    STORE_FAILED = "store_failed"
