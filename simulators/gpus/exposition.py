"""The text of `/metrics`: HELP, TYPE and one line a GPU for each field, labels in the exporter's order.

gpu, UUID, pci_bus_id, device, modelName, Hostname, then DCGM_FI_DRIVER_VERSION, then err_code and err_msg on the XID gauge
alone. A field without a value is left out, or printed as a huge number by an older exporter (`legacy`); a GPU that is gone
has no lines at all.
"""

from collections.abc import Sequence

from simulators.gpus.config import GpuNodesConfig
from simulators.gpus.fields import FIELDS, XID_FIELD, Value, xid_text
from simulators.gpus.nodes import DRIVER_VERSION, Gpu
from simulators.readings import GpuReading

CONTENT_TYPE = "text/plain; version=0.0.4"
BLANK = 9223372036854775794  # DCGM's "no value" as an integer, which older exporters printed as it is
_PROFILING = range(1001, 1100)


def exposition(config: GpuNodesConfig, gpus: Sequence[tuple[Gpu, GpuReading]], fresh: frozenset[int]) -> bytes:
    """The whole page for the GPUs that are there.

    Args:
        config: which exporter it is.
        gpus: each with what was collected of it.
        fresh: indices of GPUs that were reset since the collection before: profiling has no values for them yet.
    """
    labels = [_labels(config, gpu) for gpu, _ in gpus]
    lines: list[str] = []
    for field in FIELDS:
        lines += (f"# HELP {field.name} {field.help}", f"# TYPE {field.name} {field.kind}")
        for (gpu, reading), own in zip(gpus, labels, strict=True):
            value = None if field.number in _PROFILING and gpu.number in fresh else field.value(reading)
            if value is None:
                if config.exporter == "current":
                    continue
                value = BLANK
            more = _xid_labels(config, reading.last_xid) if field.number == XID_FIELD else ""
            lines.append(f"{field.name}{{{own}{more}}} {_number(value)}")
    return ("\n".join(lines) + "\n").encode()


def _labels(config: GpuNodesConfig, gpu: Gpu) -> str:
    is_current = config.exporter == "current"
    bus = f',pci_bus_id="{gpu.pci_bus_id}"' if is_current else ""
    driver = f',DCGM_FI_DRIVER_VERSION="{DRIVER_VERSION}"' if is_current else ""
    return (
        f'gpu="{gpu.number}",UUID="{gpu.uuid}"{bus},device="nvidia{gpu.number}",'
        f'modelName="{gpu.model_name}",{config.hostname_label}="{gpu.hostname}"{driver}'
    )


def _xid_labels(config: GpuNodesConfig, code: int) -> str:
    return f',err_code="{code}",err_msg="{xid_text(code)}"' if config.exporter == "current" else ""


def _number(value: Value) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)
