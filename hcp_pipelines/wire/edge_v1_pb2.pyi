from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OwnerMessage(_message.Message):
    __slots__ = ("announce", "command", "heartbeat")
    ANNOUNCE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    announce: Announce
    command: Command
    heartbeat: Heartbeat
    def __init__(self, announce: _Optional[_Union[Announce, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class GatewayMessage(_message.Message):
    __slots__ = ("announce_reply", "ack", "settled", "local_event")
    ANNOUNCE_REPLY_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    LOCAL_EVENT_FIELD_NUMBER: _ClassVar[int]
    announce_reply: AnnounceReply
    ack: Ack
    settled: Settled
    local_event: LocalEvent
    def __init__(self, announce_reply: _Optional[_Union[AnnounceReply, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., settled: _Optional[_Union[Settled, _Mapping]] = ..., local_event: _Optional[_Union[LocalEvent, _Mapping]] = ...) -> None: ...

class Announce(_message.Message):
    __slots__ = ("facility_id", "owner", "epoch", "generation", "resume_after_seq", "lease_epoch")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RESUME_AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    LEASE_EPOCH_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    owner: str
    epoch: int
    generation: int
    resume_after_seq: int
    lease_epoch: int
    def __init__(self, facility_id: _Optional[str] = ..., owner: _Optional[str] = ..., epoch: _Optional[int] = ..., generation: _Optional[int] = ..., resume_after_seq: _Optional[int] = ..., lease_epoch: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("facility_id", "generation", "states", "observed", "power_kw", "last_seq", "highest_epoch", "unfinished_command_ids", "reachable", "simulated_at")
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
    def __init__(self, facility_id: _Optional[str] = ..., generation: _Optional[int] = ..., states: _Optional[bytes] = ..., observed: _Optional[bytes] = ..., power_kw: _Optional[float] = ..., last_seq: _Optional[int] = ..., highest_epoch: _Optional[int] = ..., unfinished_command_ids: _Optional[_Iterable[str]] = ..., reachable: _Optional[bytes] = ..., simulated_at: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("command_id", "facility_id", "epoch", "generation", "assignments", "deadline_ms", "tick_id", "policy_id", "reason", "wave")
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
    def __init__(self, command_id: _Optional[str] = ..., facility_id: _Optional[str] = ..., epoch: _Optional[int] = ..., generation: _Optional[int] = ..., assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., deadline_ms: _Optional[int] = ..., tick_id: _Optional[int] = ..., policy_id: _Optional[int] = ..., reason: _Optional[str] = ..., wave: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("index", "state", "slots")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    index: int
    state: int
    slots: bytes
    def __init__(self, index: _Optional[int] = ..., state: _Optional[int] = ..., slots: _Optional[bytes] = ...) -> None: ...

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
    __slots__ = ("command_id", "seq", "index", "settled", "failed", "superseded", "simulated_at")
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_AT_FIELD_NUMBER: _ClassVar[int]
    command_id: str
    seq: int
    index: int
    settled: bytes
    failed: bytes
    superseded: bytes
    simulated_at: str
    def __init__(self, command_id: _Optional[str] = ..., seq: _Optional[int] = ..., index: _Optional[int] = ..., settled: _Optional[bytes] = ..., failed: _Optional[bytes] = ..., superseded: _Optional[bytes] = ..., simulated_at: _Optional[str] = ...) -> None: ...

class LocalEvent(_message.Message):
    __slots__ = ("seq", "kind", "state", "slots", "reason", "simulated_at")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_AT_FIELD_NUMBER: _ClassVar[int]
    seq: int
    kind: str
    state: int
    slots: bytes
    reason: str
    simulated_at: str
    def __init__(self, seq: _Optional[int] = ..., kind: _Optional[str] = ..., state: _Optional[int] = ..., slots: _Optional[bytes] = ..., reason: _Optional[str] = ..., simulated_at: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("epoch", "indices", "decision_price_usd_per_mwh", "price_at", "policy_digest")
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
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    indices: _containers.ScalarMap[str, float]
    decision_price_usd_per_mwh: float
    price_at: str
    policy_digest: str
    def __init__(self, epoch: _Optional[int] = ..., indices: _Optional[_Mapping[str, float]] = ..., decision_price_usd_per_mwh: _Optional[float] = ..., price_at: _Optional[str] = ..., policy_digest: _Optional[str] = ...) -> None: ...

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
