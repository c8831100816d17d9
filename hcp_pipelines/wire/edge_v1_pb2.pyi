from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OwnerMessage(_message.Message):
    __slots__ = ("announce", "command", "heartbeat", "set_locks", "set_policy")
    ANNOUNCE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    SET_LOCKS_FIELD_NUMBER: _ClassVar[int]
    SET_POLICY_FIELD_NUMBER: _ClassVar[int]
    announce: Announce
    command: Command
    heartbeat: Heartbeat
    set_locks: SetLocks
    set_policy: SetPolicy
    def __init__(self, announce: _Optional[_Union[Announce, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., set_locks: _Optional[_Union[SetLocks, _Mapping]] = ..., set_policy: _Optional[_Union[SetPolicy, _Mapping]] = ...) -> None: ...

class GatewayMessage(_message.Message):
    __slots__ = ("announce_reply", "ack", "settled", "local_event", "locks_held", "policy_judged", "saved")
    ANNOUNCE_REPLY_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    LOCAL_EVENT_FIELD_NUMBER: _ClassVar[int]
    LOCKS_HELD_FIELD_NUMBER: _ClassVar[int]
    POLICY_JUDGED_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    announce_reply: AnnounceReply
    ack: Ack
    settled: Settled
    local_event: LocalEvent
    locks_held: LocksHeld
    policy_judged: PolicyJudged
    saved: Saved
    def __init__(self, announce_reply: _Optional[_Union[AnnounceReply, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., settled: _Optional[_Union[Settled, _Mapping]] = ..., local_event: _Optional[_Union[LocalEvent, _Mapping]] = ..., locks_held: _Optional[_Union[LocksHeld, _Mapping]] = ..., policy_judged: _Optional[_Union[PolicyJudged, _Mapping]] = ..., saved: _Optional[_Union[Saved, _Mapping]] = ...) -> None: ...

class Announce(_message.Message):
    __slots__ = ("facility_id", "owner", "epoch", "generation", "resume_after_seq", "lease_epoch", "session", "platform")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RESUME_AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PLATFORM_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    owner: str
    epoch: int
    generation: int
    resume_after_seq: int
    lease_epoch: int
    session: int
    platform: str
    def __init__(self, facility_id: _Optional[str] = ..., owner: _Optional[str] = ..., epoch: _Optional[int] = ..., generation: _Optional[int] = ..., resume_after_seq: _Optional[int] = ..., lease_epoch: _Optional[int] = ..., session: _Optional[int] = ..., platform: _Optional[str] = ...) -> None: ...

class AnnounceReply(_message.Message):
    __slots__ = ("accepted", "refusal", "highest_epoch", "state")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    refusal: str
    highest_epoch: int
    state: FacilityState
    def __init__(self, accepted: _Optional[bool] = ..., refusal: _Optional[str] = ..., highest_epoch: _Optional[int] = ..., state: _Optional[_Union[FacilityState, _Mapping]] = ...) -> None: ...

class FacilityState(_message.Message):
    __slots__ = ("facility_id", "generation", "states", "observed", "power_kw", "last_seq", "highest_epoch", "unfinished_command_ids", "reachable", "simulated_at", "locked", "locks_version", "held", "policy_id", "layout", "dark", "is_metered", "devices_kw", "warm", "at_work", "tells_saved", "work_keys", "starting", "issues", "metered_at_s")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    POWER_KW_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    UNFINISHED_COMMAND_IDS_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_AT_FIELD_NUMBER: _ClassVar[int]
    LOCKED_FIELD_NUMBER: _ClassVar[int]
    LOCKS_VERSION_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    DARK_FIELD_NUMBER: _ClassVar[int]
    IS_METERED_FIELD_NUMBER: _ClassVar[int]
    DEVICES_KW_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    AT_WORK_FIELD_NUMBER: _ClassVar[int]
    TELLS_SAVED_FIELD_NUMBER: _ClassVar[int]
    WORK_KEYS_FIELD_NUMBER: _ClassVar[int]
    STARTING_FIELD_NUMBER: _ClassVar[int]
    ISSUES_FIELD_NUMBER: _ClassVar[int]
    METERED_AT_S_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    generation: int
    states: bytes
    observed: bytes
    power_kw: float
    last_seq: int
    highest_epoch: int
    unfinished_command_ids: _containers.RepeatedScalarFieldContainer[str]
    reachable: bytes
    simulated_at: str
    locked: bytes
    locks_version: int
    held: bytes
    policy_id: int
    layout: str
    dark: bytes
    is_metered: bool
    devices_kw: float
    warm: bytes
    at_work: bytes
    tells_saved: bytes
    work_keys: bytes
    starting: bytes
    issues: _containers.RepeatedCompositeFieldContainer[Issue]
    metered_at_s: float
    def __init__(self, facility_id: _Optional[str] = ..., generation: _Optional[int] = ..., states: _Optional[bytes] = ..., observed: _Optional[bytes] = ..., power_kw: _Optional[float] = ..., last_seq: _Optional[int] = ..., highest_epoch: _Optional[int] = ..., unfinished_command_ids: _Optional[_Iterable[str]] = ..., reachable: _Optional[bytes] = ..., simulated_at: _Optional[str] = ..., locked: _Optional[bytes] = ..., locks_version: _Optional[int] = ..., held: _Optional[bytes] = ..., policy_id: _Optional[int] = ..., layout: _Optional[str] = ..., dark: _Optional[bytes] = ..., is_metered: _Optional[bool] = ..., devices_kw: _Optional[float] = ..., warm: _Optional[bytes] = ..., at_work: _Optional[bytes] = ..., tells_saved: _Optional[bytes] = ..., work_keys: _Optional[bytes] = ..., starting: _Optional[bytes] = ..., issues: _Optional[_Iterable[_Union[Issue, _Mapping]]] = ..., metered_at_s: _Optional[float] = ...) -> None: ...

class Issue(_message.Message):
    __slots__ = ("issue_type", "severity", "slots")
    ISSUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    issue_type: str
    severity: str
    slots: bytes
    def __init__(self, issue_type: _Optional[str] = ..., severity: _Optional[str] = ..., slots: _Optional[bytes] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("facility_id",)
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    def __init__(self, facility_id: _Optional[str] = ...) -> None: ...

class ReadLogRequest(_message.Message):
    __slots__ = ("facility_id", "after_seq", "limit")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    after_seq: int
    limit: int
    def __init__(self, facility_id: _Optional[str] = ..., after_seq: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("command_id", "facility_id", "epoch", "generation", "assignments", "deadline_ms", "tick_id", "policy_id", "reason", "wave", "session")
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    TICK_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAVE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    facility_id: str
    epoch: int
    generation: int
    assignments: _containers.RepeatedCompositeFieldContainer[Assignment]
    deadline_ms: int
    tick_id: int
    policy_id: int
    reason: str
    wave: int
    session: int
    def __init__(self, command_id: _Optional[str] = ..., facility_id: _Optional[str] = ..., epoch: _Optional[int] = ..., generation: _Optional[int] = ..., assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., deadline_ms: _Optional[int] = ..., tick_id: _Optional[int] = ..., policy_id: _Optional[int] = ..., reason: _Optional[str] = ..., wave: _Optional[int] = ..., session: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("index", "state", "slots", "work")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    index: int
    state: int
    slots: bytes
    work: Work
    def __init__(self, index: _Optional[int] = ..., state: _Optional[int] = ..., slots: _Optional[bytes] = ..., work: _Optional[_Union[Work, _Mapping]] = ...) -> None: ...

class Work(_message.Message):
    __slots__ = ("workload_id", "model", "weights_gib", "gpus_each", "load", "checkpoint")
    WORKLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_GIB_FIELD_NUMBER: _ClassVar[int]
    GPUS_EACH_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    workload_id: str
    model: str
    weights_gib: float
    gpus_each: int
    load: str
    checkpoint: str
    def __init__(self, workload_id: _Optional[str] = ..., model: _Optional[str] = ..., weights_gib: _Optional[float] = ..., gpus_each: _Optional[int] = ..., load: _Optional[str] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("command_id", "seq", "assignments", "refusal", "duplicate", "detail")
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    seq: int
    assignments: _containers.RepeatedCompositeFieldContainer[AssignmentAck]
    refusal: str
    duplicate: bool
    detail: str
    def __init__(self, command_id: _Optional[str] = ..., seq: _Optional[int] = ..., assignments: _Optional[_Iterable[_Union[AssignmentAck, _Mapping]]] = ..., refusal: _Optional[str] = ..., duplicate: _Optional[bool] = ..., detail: _Optional[str] = ...) -> None: ...

class AssignmentAck(_message.Message):
    __slots__ = ("index", "accepted", "deferred", "refused")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DEFERRED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    index: int
    accepted: bytes
    deferred: bytes
    refused: _containers.RepeatedCompositeFieldContainer[Refused]
    def __init__(self, index: _Optional[int] = ..., accepted: _Optional[bytes] = ..., deferred: _Optional[bytes] = ..., refused: _Optional[_Iterable[_Union[Refused, _Mapping]]] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("code", "slots")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    code: str
    slots: bytes
    def __init__(self, code: _Optional[str] = ..., slots: _Optional[bytes] = ...) -> None: ...

class Settled(_message.Message):
    __slots__ = ("command_id", "seq", "index", "settled", "failed", "superseded", "simulated_at", "unfit", "problem", "not_now")
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_AT_FIELD_NUMBER: _ClassVar[int]
    UNFIT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    NOT_NOW_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    seq: int
    index: int
    settled: bytes
    failed: bytes
    superseded: bytes
    simulated_at: str
    unfit: bytes
    problem: str
    not_now: bytes
    def __init__(self, command_id: _Optional[str] = ..., seq: _Optional[int] = ..., index: _Optional[int] = ..., settled: _Optional[bytes] = ..., failed: _Optional[bytes] = ..., superseded: _Optional[bytes] = ..., simulated_at: _Optional[str] = ..., unfit: _Optional[bytes] = ..., problem: _Optional[str] = ..., not_now: _Optional[bytes] = ...) -> None: ...

class LocalEvent(_message.Message):
    __slots__ = ("seq", "kind", "state", "slots", "reason", "simulated_at", "actor", "order_id", "mw_delta", "detail")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_AT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    MW_DELTA_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    seq: int
    kind: str
    state: int
    slots: bytes
    reason: str
    simulated_at: str
    actor: str
    order_id: str
    mw_delta: float
    detail: str
    def __init__(self, seq: _Optional[int] = ..., kind: _Optional[str] = ..., state: _Optional[int] = ..., slots: _Optional[bytes] = ..., reason: _Optional[str] = ..., simulated_at: _Optional[str] = ..., actor: _Optional[str] = ..., order_id: _Optional[str] = ..., mw_delta: _Optional[float] = ..., detail: _Optional[str] = ...) -> None: ...

class SetLocks(_message.Message):
    __slots__ = ("facility_id", "epoch", "version", "slots")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    epoch: int
    version: int
    slots: bytes
    def __init__(self, facility_id: _Optional[str] = ..., epoch: _Optional[int] = ..., version: _Optional[int] = ..., slots: _Optional[bytes] = ...) -> None: ...

class LocksHeld(_message.Message):
    __slots__ = ("version", "seq", "refusal", "detail")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    version: int
    seq: int
    refusal: str
    detail: str
    def __init__(self, version: _Optional[int] = ..., seq: _Optional[int] = ..., refusal: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class SetPolicy(_message.Message):
    __slots__ = ("facility_id", "epoch", "policy_id", "body")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    epoch: int
    policy_id: int
    body: bytes
    def __init__(self, facility_id: _Optional[str] = ..., epoch: _Optional[int] = ..., policy_id: _Optional[int] = ..., body: _Optional[bytes] = ...) -> None: ...

class PolicyJudged(_message.Message):
    __slots__ = ("policy_id", "seq", "refusal")
    POLICY_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    policy_id: int
    seq: int
    refusal: str
    def __init__(self, policy_id: _Optional[int] = ..., seq: _Optional[int] = ..., refusal: _Optional[str] = ...) -> None: ...

class DirectOrder(_message.Message):
    __slots__ = ("facility_id", "order_id", "operator", "token", "reason", "issued_at_ms", "to_kw", "by_kw", "stop", "release")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    TO_KW_FIELD_NUMBER: _ClassVar[int]
    BY_KW_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    order_id: str
    operator: str
    token: str
    reason: str
    issued_at_ms: int
    to_kw: float
    by_kw: float
    stop: bool
    release: bool
    def __init__(self, facility_id: _Optional[str] = ..., order_id: _Optional[str] = ..., operator: _Optional[str] = ..., token: _Optional[str] = ..., reason: _Optional[str] = ..., issued_at_ms: _Optional[int] = ..., to_kw: _Optional[float] = ..., by_kw: _Optional[float] = ..., stop: _Optional[bool] = ..., release: _Optional[bool] = ...) -> None: ...

class DirectReply(_message.Message):
    __slots__ = ("accepted", "refusal", "detail", "seq", "devices", "expected_kw")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_KW_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    refusal: str
    detail: str
    seq: int
    devices: int
    expected_kw: float
    def __init__(self, accepted: _Optional[bool] = ..., refusal: _Optional[str] = ..., detail: _Optional[str] = ..., seq: _Optional[int] = ..., devices: _Optional[int] = ..., expected_kw: _Optional[float] = ...) -> None: ...

class ReadDiscoveryRequest(_message.Message):
    __slots__ = ("facility_id", "after_scan", "process_id")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SCAN_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    after_scan: int
    process_id: str
    def __init__(self, facility_id: _Optional[str] = ..., after_scan: _Optional[int] = ..., process_id: _Optional[str] = ...) -> None: ...

class DiscoveryPart(_message.Message):
    __slots__ = ("scan", "process_id", "finished_at", "scanned", "hung", "found", "is_last")
    SCAN_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    SCANNED_FIELD_NUMBER: _ClassVar[int]
    HUNG_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    IS_LAST_FIELD_NUMBER: _ClassVar[int]
    scan: int
    process_id: str
    finished_at: str
    scanned: _containers.RepeatedScalarFieldContainer[str]
    hung: _containers.RepeatedScalarFieldContainer[str]
    found: _containers.RepeatedCompositeFieldContainer[FoundDevice]
    is_last: bool
    def __init__(self, scan: _Optional[int] = ..., process_id: _Optional[str] = ..., finished_at: _Optional[str] = ..., scanned: _Optional[_Iterable[str]] = ..., hung: _Optional[_Iterable[str]] = ..., found: _Optional[_Iterable[_Union[FoundDevice, _Mapping]]] = ..., is_last: _Optional[bool] = ...) -> None: ...

class FoundDevice(_message.Message):
    __slots__ = ("address", "dialect", "model", "firmware", "mac", "serial", "problem", "boards", "memory_gb", "compute_capability", "max_power_w")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FIRMWARE_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    BOARDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_GB_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    MAX_POWER_W_FIELD_NUMBER: _ClassVar[int]
    address: str
    dialect: str
    model: str
    firmware: str
    mac: str
    serial: str
    problem: str
    boards: _containers.RepeatedScalarFieldContainer[str]
    memory_gb: float
    compute_capability: str
    max_power_w: float
    def __init__(self, address: _Optional[str] = ..., dialect: _Optional[str] = ..., model: _Optional[str] = ..., firmware: _Optional[str] = ..., mac: _Optional[str] = ..., serial: _Optional[str] = ..., problem: _Optional[str] = ..., boards: _Optional[_Iterable[str]] = ..., memory_gb: _Optional[float] = ..., compute_capability: _Optional[str] = ..., max_power_w: _Optional[float] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("epoch", "indices", "decision_price_usd_per_mwh", "price_at", "journalled_seq", "floors")
    class IndicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    DECISION_PRICE_USD_PER_MWH_FIELD_NUMBER: _ClassVar[int]
    PRICE_AT_FIELD_NUMBER: _ClassVar[int]
    JOURNALLED_SEQ_FIELD_NUMBER: _ClassVar[int]
    FLOORS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    indices: _containers.ScalarMap[str, float]
    decision_price_usd_per_mwh: float
    price_at: str
    journalled_seq: int
    floors: Floors
    def __init__(self, epoch: _Optional[int] = ..., indices: _Optional[_Mapping[str, float]] = ..., decision_price_usd_per_mwh: _Optional[float] = ..., price_at: _Optional[str] = ..., journalled_seq: _Optional[int] = ..., floors: _Optional[_Union[Floors, _Mapping]] = ...) -> None: ...

class Floors(_message.Message):
    __slots__ = ("floors",)
    FLOORS_FIELD_NUMBER: _ClassVar[int]
    floors: _containers.RepeatedCompositeFieldContainer[Floor]
    def __init__(self, floors: _Optional[_Iterable[_Union[Floor, _Mapping]]] = ...) -> None: ...

class Floor(_message.Message):
    __slots__ = ("mw", "start_s", "end_s", "sheddable")
    MW_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    SHEDDABLE_FIELD_NUMBER: _ClassVar[int]
    mw: float
    start_s: float
    end_s: float
    sheddable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, mw: _Optional[float] = ..., start_s: _Optional[float] = ..., end_s: _Optional[float] = ..., sheddable: _Optional[_Iterable[str]] = ...) -> None: ...

class Switch(_message.Message):
    __slots__ = ("command_id", "index", "node", "slots", "from_state", "before", "before_slots", "to_state", "work", "stage", "outcome", "success", "total_duration_ms", "phases", "device", "problem", "simulated_at")
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    FROM_STATE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_SLOTS_FIELD_NUMBER: _ClassVar[int]
    TO_STATE_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_AT_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    index: int
    node: str
    slots: bytes
    from_state: int
    before: Work
    before_slots: bytes
    to_state: int
    work: Work
    stage: str
    outcome: str
    success: bool
    total_duration_ms: float
    phases: SwitchPhases
    device: SwitchPhases
    problem: str
    simulated_at: str
    def __init__(self, command_id: _Optional[str] = ..., index: _Optional[int] = ..., node: _Optional[str] = ..., slots: _Optional[bytes] = ..., from_state: _Optional[int] = ..., before: _Optional[_Union[Work, _Mapping]] = ..., before_slots: _Optional[bytes] = ..., to_state: _Optional[int] = ..., work: _Optional[_Union[Work, _Mapping]] = ..., stage: _Optional[str] = ..., outcome: _Optional[str] = ..., success: _Optional[bool] = ..., total_duration_ms: _Optional[float] = ..., phases: _Optional[_Union[SwitchPhases, _Mapping]] = ..., device: _Optional[_Union[SwitchPhases, _Mapping]] = ..., problem: _Optional[str] = ..., simulated_at: _Optional[str] = ...) -> None: ...

class Saved(_message.Message):
    __slots__ = ("seq", "workload_id", "slots", "checkpoint", "problem", "simulated_at")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_AT_FIELD_NUMBER: _ClassVar[int]
    seq: int
    workload_id: str
    slots: bytes
    checkpoint: str
    problem: str
    simulated_at: str
    def __init__(self, seq: _Optional[int] = ..., workload_id: _Optional[str] = ..., slots: _Optional[bytes] = ..., checkpoint: _Optional[str] = ..., problem: _Optional[str] = ..., simulated_at: _Optional[str] = ...) -> None: ...

class SwitchPhases(_message.Message):
    __slots__ = ("pause_ms", "checkpoint_ms", "switch_ms", "start_ms")
    PAUSE_MS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_MS_FIELD_NUMBER: _ClassVar[int]
    SWITCH_MS_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    pause_ms: float
    checkpoint_ms: float
    switch_ms: float
    start_ms: float
    def __init__(self, pause_ms: _Optional[float] = ..., checkpoint_ms: _Optional[float] = ..., switch_ms: _Optional[float] = ..., start_ms: _Optional[float] = ...) -> None: ...

class LogEntry(_message.Message):
    __slots__ = ("seq", "kind", "payload", "stored_at")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    STORED_AT_FIELD_NUMBER: _ClassVar[int]
    seq: int
    kind: str
    payload: bytes
    stored_at: str
    def __init__(self, seq: _Optional[int] = ..., kind: _Optional[str] = ..., payload: _Optional[bytes] = ..., stored_at: _Optional[str] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("state", "owner", "acks", "unfinished", "orders", "policy", "floors", "switches")
    STATE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    UNFINISHED_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    FLOORS_FIELD_NUMBER: _ClassVar[int]
    SWITCHES_FIELD_NUMBER: _ClassVar[int]
    state: FacilityState
    owner: str
    acks: _containers.RepeatedCompositeFieldContainer[Ack]
    unfinished: _containers.RepeatedCompositeFieldContainer[Command]
    orders: _containers.RepeatedCompositeFieldContainer[DirectOrder]
    policy: SetPolicy
    floors: Floors
    switches: _containers.RepeatedCompositeFieldContainer[Switch]
    def __init__(self, state: _Optional[_Union[FacilityState, _Mapping]] = ..., owner: _Optional[str] = ..., acks: _Optional[_Iterable[_Union[Ack, _Mapping]]] = ..., unfinished: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., orders: _Optional[_Iterable[_Union[DirectOrder, _Mapping]]] = ..., policy: _Optional[_Union[SetPolicy, _Mapping]] = ..., floors: _Optional[_Union[Floors, _Mapping]] = ..., switches: _Optional[_Iterable[_Union[Switch, _Mapping]]] = ...) -> None: ...
