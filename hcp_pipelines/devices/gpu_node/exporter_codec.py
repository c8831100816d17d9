"""The exporter's page → `NodeTelemetry`, pure. Matched by `gpu` and `UUID` alone: other labels come and go with versions.

Quirks, each with the exporters that have it:
- an absent value is left out; exporter 2.1 printed DCGM's blank instead: 0x7ffffffffffffff0 and up for integers
  (docs.nvidia.com 2021-04 shows 9223372036854775794), 2^47 for floating point (dcgm: dcgm_structs.h). Both are None here.
- the label `Hostname` is `hostname` in commits after 4.5.3-4.8.2; `UUID` is `uuid` in its old namespace.
- err_code and err_msg change with the XID's value: never part of the match.

Lines are taken apart here, since prometheus_client's parser takes 20 ms and more for a page of eight GPUs, which a gateway reads
once a second, and is not made for hostile pages. A test compares the two on whole pages.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from hcp_pipelines.devices.gpu_node.limits import plausible_power_w
from hcp_pipelines.devices.gpu_node.values import MIB, GpuTelemetry, NodeTelemetry
from hcp_pipelines.domain.errors import DeviceReplyError

MAX_GPUS = 64
MAX_LABELS = 1024  # characters of a sample's labels
MAX_PROBLEMS = 16  # of one GPU that are told
_BLANK_INT = float(0x7FFFFFFFFFFFFFF0)
_BLANK_FLOAT = 2.0**47
_PREFIX = "DCGM_FI_"
_COUNTERS = frozenset({"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"})  # may grow past the blank of floating point

_ONE = r'\s*+([A-Za-z_][A-Za-z0-9_]*+)\s*+=\s*+"((?:[^"\\]|\\.)*+)"\s*+(?:,|$)'
_LABEL, _ESCAPES = re.compile(_ONE), re.compile(r"\\(.)")
_LABELS = re.compile(f"(?:{_ONE})*+\\s*+")
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")

Values = Mapping[str, float]
Key = tuple[int, str]  # gpu, UUID


def decode_metrics(body: bytes, address: str) -> NodeTelemetry:
    """The page as telemetry, by rising GPU index.

    Raises:
        DeviceReplyError: it is no exposition, or shows no GPU of any kind.
    """
    found: dict[Key, dict[str, float]] = defaultdict(dict)
    labels: dict[Key, Mapping[str, str]] = {}
    problems: dict[Key, list[str]] = defaultdict(list)
    is_exporter = False
    try:
        for name, text, value in _samples(body.decode()):
            is_exporter = is_exporter or name.startswith(_PREFIX)
            key = _key(text) if name.startswith(_PREFIX) else None
            if key is not None:
                if key not in found and len(found) == MAX_GPUS:
                    raise DeviceReplyError(f"{address}: more than {MAX_GPUS} GPUs in one node, which is not believed")
                _add(found[key], name, value, problems[key])
                labels.setdefault(key, _labels(text))
    except (ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise DeviceReplyError(f"{address}: not a Prometheus page ({error}): {body[:80]!r}") from error
    if not is_exporter:
        raise DeviceReplyError(f"{address}: a page without a DCGM counter: {body[:80]!r}")
    return NodeTelemetry(tuple(_telemetry(key, labels[key], found[key], problems[key]) for key in sorted(found)))


def _samples(text: str) -> Iterator[tuple[str, str, float]]:
    """Name, text of the labels, and value of each line of the Prometheus text format 0.0.4; a time stamp is passed over.

    Raises:
        ValueError: a line is none of the format's.

    >>> list(_samples('a{b="c"} 1.5 1700000000')), list(_samples("d 2"))
    ([('a', 'b="c"', 1.5)], [('d', '', 2.0)])
    """
    for line in text.split("\n"):
        head, brace, rest = line.rpartition("}")
        if not brace:
            head, _, rest = line.strip().partition(" ")
        name, _, labels = head.partition("{")
        name, (value, *stamp) = name.strip(), rest.split() or [""]
        if _NAME.fullmatch(name) and value and "_" not in value and len(stamp) < 2 and len(labels) <= MAX_LABELS:
            yield name, labels, float(value)
        elif line.strip() and not line.lstrip().startswith("#"):
            message = f"no sample: {line[:60]!r}"
            raise ValueError(message)


def _labels(text: str) -> Mapping[str, str]:
    """The labels of a sample.

    Raises:
        ValueError: they are none. Decided in one pass: a hostile text is refused as quickly as a good one is read.

    >>> _labels('gpu="0",UUID="GPU-1"')
    {'gpu': '0', 'UUID': 'GPU-1'}
    """
    if not _LABELS.fullmatch(text):
        message = f"no labels: {text[:60]!r}"
        raise ValueError(message)
    return {name: _ESCAPES.sub(_unescaped, value) for name, value in _LABEL.findall(text)}


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n"}.get(match[1], match[1])


@lru_cache(maxsize=16_384)  # a label text a GPU, of a kilobyte at most; what it holds is small
def _key(text: str) -> Key | None:
    """What a sample is matched by."""
    labels = _labels(text)
    index, uuid = labels.get("gpu", ""), labels.get("UUID") or labels.get("uuid", "")
    return (int(index), uuid) if index.isdecimal() and len(index) < 4 and uuid else None


def _add(values: dict[str, float], name: str, value: float, problems: list[str]) -> None:
    if not math.isfinite(value):
        problems.append(f"{name.removeprefix(_PREFIX)} is {value}")
    elif value < _BLANK_INT and (value < _BLANK_FLOAT or name in _COUNTERS):
        values[name] = value


def _telemetry(key: Key, labels: Mapping[str, str], values: Values, problems: list[str]) -> GpuTelemetry:
    def take(name: str, least: float, most: float, factor: float = 1.0) -> float | None:
        value = values.get(_PREFIX + name)
        if value is not None and not least <= value <= most:
            problems.append(f"{name} is {value:g}, outside {least:g} to {most:g}")
            return None
        return None if value is None else value * factor

    model = labels.get("modelName", "")
    told = GpuTelemetry(
        index=key[0],
        uuid=key[1],
        model=model,
        hostname=labels.get("Hostname") or labels.get("hostname", ""),
        power_w=take("DEV_POWER_USAGE", 0, plausible_power_w(model)),
        energy_j=take("DEV_TOTAL_ENERGY_CONSUMPTION", 0, 1e18, 1e-3),
        temperature_celsius=take("DEV_GPU_TEMP", -50, 200),
        memory_temperature_celsius=take("DEV_MEMORY_TEMP", -50, 200),
        utilization_fraction=take("DEV_GPU_UTIL", 0, 100, 0.01),
        engine_active_fraction=take("PROF_GR_ENGINE_ACTIVE", 0, 1),
        tensor_active_fraction=take("PROF_PIPE_TENSOR_ACTIVE", 0, 1),
        dram_active_fraction=take("PROF_DRAM_ACTIVE", 0, 1),
        memory_used_bytes=_bytes(take("DEV_FB_USED", 0, 1e7)),
        memory_total_bytes=_total_bytes(take),
        sm_clock_mhz=take("DEV_SM_CLOCK", 0, 10_000),
        remapped_rows=_remapped(take),
        has_remap_failed=_flag(take("DEV_ROW_REMAP_FAILURE", 0, 1)),
        last_xid=_whole(take("DEV_XID_ERRORS", 0, 100_000)),
    )
    return replace(told, problems=tuple(dict.fromkeys(problems[:MAX_PROBLEMS]))) if problems else told


Take = Callable[[str, float, float], float | None]


def _total_bytes(take: Take) -> int | None:
    """Used, free and reserved; exporters before 3.1 have no reserved."""
    used, free = take("DEV_FB_USED", 0, 1e7), take("DEV_FB_FREE", 0, 1e7)
    if used is None or free is None:
        return None
    return _bytes(used + free + (take("DEV_FB_RESERVED", 0, 1e7) or 0.0))


def _remapped(take: Take) -> int | None:
    uncorrectable = take("DEV_UNCORRECTABLE_REMAPPED_ROWS", 0, 1e6)
    correctable = take("DEV_CORRECTABLE_REMAPPED_ROWS", 0, 1e6)
    return None if uncorrectable is None else int(uncorrectable + (correctable or 0.0))


def _bytes(mib: float | None) -> int | None:
    return None if mib is None else round(mib * MIB)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _flag(value: float | None) -> bool | None:
    return None if value is None else value > 0
