"""What the exporter's default counters are: name, number, type, HELP text, and the value of each from a GPU's reading.

Names, types and texts are the real exporter's (dcgm: etc/default-counters.csv), in the order of DCGM's field numbers, which
is the order it prints them in. Integers are printed as such, floating point with six digits. How lines look is in `exposition`.
"""

from collections.abc import Callable
from typing import NamedTuple

from simulators.readings import GpuReading

RESERVED_MIB = 551  # what the driver keeps of an 80 GiB board
MEMORY_CLOCK_MHZ = 2619  # HBM3 of an H100, the same idle and busy
_TENSOR_SHARE = {4: 0.22, 5: 0.41, 6: 0.52}  # of the time the engine is active; ours
_DRAM_SHARE = {4: 0.38, 5: 0.55, 6: 0.34}

Value = int | float | None  # None: DCGM has no value for it


class Field(NamedTuple):
    """One counter of the exporter."""

    number: int
    name: str
    kind: str
    help: str
    value: Callable[[GpuReading], Value]


def _nvlink(gpu: GpuReading) -> Value:
    if "nvlink" in gpu.faults:
        return None
    return int(gpu.energy_j * 0.4)


def _tensor(gpu: GpuReading) -> Value:
    return gpu.utilization_fraction * _TENSOR_SHARE.get(gpu.state, 0.0)


def _dram(gpu: GpuReading) -> Value:
    return gpu.utilization_fraction * _DRAM_SHARE.get(gpu.state, 0.0)


def _free_mib(gpu: GpuReading) -> Value:
    return max(0, round(gpu.memory_total_mib) - RESERVED_MIB - round(gpu.memory_used_mib))


FIELDS = (
    Field(100, "DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", lambda g: round(g.sm_clock_mhz)),
    Field(101, "DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", lambda _: MEMORY_CLOCK_MHZ),
    Field(140, "DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C).", lambda g: round(g.memory_temperature_c)),
    Field(150, "DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", lambda g: round(g.temperature_c)),
    Field(155, "DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", lambda g: float(g.power_w)),
    Field(
        156, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "Total energy consumption since boot (in mJ).",
        lambda g: int(g.energy_j * 1000),
    ),
    Field(202, "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "Total number of PCIe retries.", lambda _: 0),
    Field(203, "DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", lambda g: round(100 * g.utilization_fraction)),
    Field(
        204, "DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Memory utilization (in %).",
        lambda g: round(100 * g.utilization_fraction * _DRAM_SHARE.get(g.state, 0.0)),
    ),
    Field(206, "DCGM_FI_DEV_ENC_UTIL", "gauge", "Encoder utilization (in %).", lambda _: 0),
    Field(207, "DCGM_FI_DEV_DEC_UTIL", "gauge", "Decoder utilization (in %).", lambda _: 0),
    Field(230, "DCGM_FI_DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.", lambda g: g.last_xid),
    Field(251, "DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).", _free_mib),
    Field(252, "DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", lambda g: round(g.memory_used_mib)),
    Field(253, "DCGM_FI_DEV_FB_RESERVED", "gauge", "Framebuffer memory reserved (in MiB).", lambda _: RESERVED_MIB),
    Field(
        393, "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "counter", "Number of remapped rows for uncorrectable errors",
        lambda g: g.rows.uncorrectable,
    ),
    Field(
        394, "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "counter", "Number of remapped rows for correctable errors",
        lambda g: g.rows.correctable,
    ),
    Field(
        395, "DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "Whether remapping of rows has failed",
        lambda g: int(g.rows.has_failed),
    ),
    Field(
        449, "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "counter", "Total number of NVLink bandwidth counters for all lanes",
        _nvlink,
    ),
    Field(526, "DCGM_FI_DEV_VGPU_LICENSE_STATUS", "gauge", "vGPU License status", lambda _: 0),
    Field(
        1001, "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "Ratio of time the graphics engine is active.",
        lambda g: float(g.utilization_fraction),
    ),
    Field(1004, "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "Ratio of cycles the tensor (HMMA) pipe is active.", _tensor),
    Field(
        1005, "DCGM_FI_PROF_DRAM_ACTIVE", "gauge",
        "Ratio of cycles the device memory interface is active sending or receiving data.", _dram,
    ),
    Field(
        1009, "DCGM_FI_PROF_PCIE_TX_BYTES", "gauge",
        "The rate of data transmitted over the PCIe bus - including both protocol headers and data payloads -"
        " in bytes per second.",
        lambda g: round(2.1e8 * g.utilization_fraction),
    ),
    Field(
        1010, "DCGM_FI_PROF_PCIE_RX_BYTES", "gauge",
        "The rate of data received over the PCIe bus - including both protocol headers and data payloads -"
        " in bytes per second.",
        lambda g: round(3.4e8 * g.utilization_fraction),
    ),
)  # fmt: skip
XID_FIELD = 230

# err_msg of the codes this world raises, and of the commonest others; the exporter's own texts.
_XID_TEXTS = {
    0: "No Error",
    8: "GPU stopped processing",
    13: "Graphics Engine Exception",
    31: "GPU memory page fault",
    32: "Invalid or corrupted push buffer stream",
    43: "GPU stopped processing",
    45: "Preemptive cleanup, due to previous errors -- Most likely to see when running multiple cuda",
    46: "GPU stopped processing",
    48: "Double Bit ECC Error",
    62: "Internal micro-controller halt",
    63: "ECC page retirement or row remapping recording event",
    64: "ECC page retirement or row remapper recording failure",
    69: "Graphics Engine class error",
    74: "NVLINK Error",
    79: "GPU has fallen off the bus",
    92: "High single-bit ECC error rate",
    94: "Contained ECC error",
    95: "Uncontained ECC error",
    109: "Context Switch Timeout Error",
    119: "GSP RPC Timeout",
    120: "GSP Error",
    136: "ALI Training Fail",
    140: "Unrecovered ECC Error",
    143: "GPU Initialization Failure",
    145: "NVLINK: RLW Error",
    149: "NVLINK: NETIR Error",
    154: "GPU Recovery Action Changed",
}


def xid_text(code: int) -> str:
    """The text of an XID as the exporter puts it into err_msg.

    >>> xid_text(79), xid_text(9999)
    ('GPU has fallen off the bus', 'Unknown Error')
    """
    return _XID_TEXTS.get(code, "Unknown Error")
