from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CollectorMessage(_message.Message):
    __slots__ = ("open", "ack")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    open: Open
    ack: Ack
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("facility_id", "after_seq", "window_bytes")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BYTES_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    after_seq: int
    window_bytes: int
    def __init__(self, facility_id: _Optional[str] = ..., after_seq: _Optional[int] = ..., window_bytes: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("seq",)
    SEQ_FIELD_NUMBER: _ClassVar[int]
    seq: int
    def __init__(self, seq: _Optional[int] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("facility_id", "generation", "seq", "sampled_at_us", "simulated_at_us", "parts", "power_kw", "hashrate_th_per_s", "temperature_celsius", "state", "flags", "shed", "meter")
    FACILITY_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_AT_US_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_AT_US_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    POWER_KW_FIELD_NUMBER: _ClassVar[int]
    HASHRATE_TH_PER_S_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_CELSIUS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    SHED_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    facility_id: str
    generation: int
    seq: int
    sampled_at_us: int
    simulated_at_us: int
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    power_kw: bytes
    hashrate_th_per_s: bytes
    temperature_celsius: bytes
    state: bytes
    flags: bytes
    shed: int
    meter: Meter
    def __init__(self, facility_id: _Optional[str] = ..., generation: _Optional[int] = ..., seq: _Optional[int] = ..., sampled_at_us: _Optional[int] = ..., simulated_at_us: _Optional[int] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., power_kw: _Optional[bytes] = ..., hashrate_th_per_s: _Optional[bytes] = ..., temperature_celsius: _Optional[bytes] = ..., state: _Optional[bytes] = ..., flags: _Optional[bytes] = ..., shed: _Optional[int] = ..., meter: _Optional[_Union[Meter, _Mapping]] = ...) -> None: ...

class Meter(_message.Message):
    __slots__ = ("read_at_us", "power_kw", "energy_mwh", "is_metered")
    READ_AT_US_FIELD_NUMBER: _ClassVar[int]
    POWER_KW_FIELD_NUMBER: _ClassVar[int]
    ENERGY_MWH_FIELD_NUMBER: _ClassVar[int]
    IS_METERED_FIELD_NUMBER: _ClassVar[int]
    read_at_us: int
    power_kw: float
    energy_mwh: float
    is_metered: bool
    def __init__(self, read_at_us: _Optional[int] = ..., power_kw: _Optional[float] = ..., energy_mwh: _Optional[float] = ..., is_metered: _Optional[bool] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("group_id", "first_slot", "devices")
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_SLOT_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    group_id: str
    first_slot: int
    devices: int
    def __init__(self, group_id: _Optional[str] = ..., first_slot: _Optional[int] = ..., devices: _Optional[int] = ...) -> None: ...
