"""NVIDIA's XID errors: code → what it means → what to do at once, and what next where that does not help. A table, no I/O.

Meanings in our words; actions as in NVIDIA's catalogue for Ampere and newer. What a remediation does with an action, and when
it may, is decided elsewhere (`fleet`). A code that is missing here is answered with *contact support*, as the catalogue does.
Source: docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html, as mirrored on 2025-10-29; for 48 and 74 also
docs.nvidia.com/health-validation/reference/checks/xid.md (critical, drain first).
"""

from dataclasses import dataclass
from enum import StrEnum


class XidAction(StrEnum):
    """What to do about an XID; the catalogue's name is in the comment."""

    NONE = "none"  # IGNORE: recorded, and nothing to do now
    FOLLOW_OTHER = "follow_other"  # 45, 154: comes with another XID, which says what to do
    RESTART_APP = "restart_app"
    RESET_GPU = "reset_gpu"
    DRAIN_AND_RESET = "drain_and_reset"  # WORKFLOW_XID_48
    CHECK_NVLINK = "check_nvlink"  # WORKFLOW_NVLINK_ERR, WORKFLOW_NVLINK5_ERR, INVESTIGATE_LINK_SI
    RESTART_VM = "restart_vm"
    REBOOT_NODE = "reboot_node"  # RESTART_BM
    CHECK_MECHANICALS = "check_mechanicals"
    CHECK_SOFTWARE = "check_software"  # CHECK_APP/CUDA, CHECK_UVM, INVESTIGATE_SW, UPDATE_SWFW
    CONTACT_SUPPORT = "contact_support"


@dataclass(frozen=True, slots=True)
class Xid:
    """One code: what it means, what to do at once, and what if it comes again or that did not help."""

    code: int
    meaning: str
    action: XidAction
    then: XidAction

    @property
    def kills_workload(self) -> bool:
        """Whether the workload on that GPU has to be started again in any case."""
        return self.action not in _WORKLOAD_GOES_ON

    @property
    def takes_gpu_out(self) -> bool:
        """Whether the GPU must not get work until the action is done."""
        return self.action in _OUT_OF_SERVICE


_A = XidAction
_WORKLOAD_GOES_ON = frozenset({_A.NONE, _A.FOLLOW_OTHER, _A.CHECK_SOFTWARE})
_OUT_OF_SERVICE = frozenset({
    _A.RESET_GPU, _A.DRAIN_AND_RESET, _A.CHECK_NVLINK, _A.RESTART_VM, _A.REBOOT_NODE, _A.CHECK_MECHANICALS,
    _A.CONTACT_SUPPORT,
})  # fmt: skip
_COPY_ENGINES = (*range(39, 42), *range(70, 73), *range(75, 78), 85, *range(126, 136))
_MEDIA_ENGINES = (60, 68, 82, 83, 84, 86, 88, 89, *range(96, 106), 139)
_NVLINK5_UNITS = range(144, 151)

_ROWS = (
    Xid(0, "no error since the driver was loaded or the GPU was reset", _A.NONE, _A.NONE),
    Xid(8, "the GPU stopped processing", _A.RESTART_APP, _A.CONTACT_SUPPORT),
    Xid(11, "an invalid command stream from the application", _A.RESTART_APP, _A.CHECK_SOFTWARE),
    Xid(13, "an exception in the compute engine, mostly an illegal access of the application", _A.RESTART_APP, _A.CHECK_SOFTWARE),
    Xid(25, "an illegal command stream from the application", _A.RESTART_APP, _A.CHECK_SOFTWARE),
    Xid(31, "a page fault, mostly an illegal address of the application", _A.RESTART_APP, _A.CHECK_SOFTWARE),
    Xid(32, "a corrupted command stream from the application", _A.RESTART_APP, _A.CHECK_SOFTWARE),
    Xid(37, "the firmware met an unknown method", _A.NONE, _A.CHECK_SOFTWARE),
    Xid(38, "a watchdog of the firmware expired", _A.NONE, _A.CONTACT_SUPPORT),
    *(Xid(code, "an error in a copy engine", _A.RESTART_APP, _A.CONTACT_SUPPORT) for code in _COPY_ENGINES),
    Xid(43, "the application's channel was reset", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(44, "a fault during a context switch", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(45, "an application was removed because of an earlier error", _A.FOLLOW_OTHER, _A.CONTACT_SUPPORT),
    Xid(46, "the GPU timed out", _A.RESET_GPU, _A.CONTACT_SUPPORT),
    Xid(48, "an uncorrectable (double-bit) memory error", _A.DRAIN_AND_RESET, _A.CONTACT_SUPPORT),
    Xid(54, "auxiliary power is not connected", _A.CHECK_MECHANICALS, _A.CONTACT_SUPPORT),
    *(Xid(code, "an error in a media engine", _A.RESTART_APP, _A.CONTACT_SUPPORT) for code in _MEDIA_ENGINES),
    Xid(62, "an internal microcontroller halted", _A.RESET_GPU, _A.CONTACT_SUPPORT),
    Xid(63, "a memory row was marked for remapping: takes effect at the next reset, nothing to do now", _A.NONE, _A.NONE),
    Xid(64, "remapping a memory row failed", _A.RESET_GPU, _A.CONTACT_SUPPORT),
    Xid(66, "an illegal access of the driver", _A.NONE, _A.CHECK_SOFTWARE),
    Xid(67, "an illegal access of the driver", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(69, "a class error in the compute engine", _A.RESTART_APP, _A.CHECK_SOFTWARE),
    Xid(74, "an NVLink error: this GPU, its peer or the switch between them", _A.CHECK_NVLINK, _A.CONTACT_SUPPORT),
    Xid(78, "a virtual GPU did not start", _A.CHECK_SOFTWARE, _A.CHECK_SOFTWARE),
    Xid(79, "the GPU has fallen off the bus", _A.REBOOT_NODE, _A.CONTACT_SUPPORT),
    Xid(80, "corrupted data reached the GPU", _A.RESTART_APP, _A.CHECK_SOFTWARE),
    Xid(92, "many single-bit memory errors, all corrected", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(93, "the inforom has been written very often", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(94, "a memory error that was contained: it hit one application", _A.RESTART_APP, _A.NONE),
    Xid(95, "a memory error that was not contained: all applications of the GPU", _A.RESET_GPU, _A.NONE),
    Xid(106, "a test message", _A.NONE, _A.NONE),
    Xid(107, "a silent test message", _A.NONE, _A.NONE),
    Xid(109, "a context switch timed out", _A.RESET_GPU, _A.CONTACT_SUPPORT),
    Xid(110, "a security fault", _A.RESET_GPU, _A.CHECK_SOFTWARE),
    Xid(119, "the GPU's system processor did not answer a call", _A.RESET_GPU, _A.CHECK_SOFTWARE),
    Xid(120, "the GPU's system processor failed", _A.RESET_GPU, _A.CHECK_SOFTWARE),
    Xid(121, "an error on the chip-to-chip link", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(136, "link training failed", _A.RESET_GPU, _A.CHECK_NVLINK),
    Xid(137, "an NVLink access without rights", _A.NONE, _A.CHECK_SOFTWARE),
    Xid(140, "a memory error that was not recovered", _A.RESET_GPU, _A.CONTACT_SUPPORT),
    Xid(141, "an error on CUDA's fast path", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(143, "the GPU did not initialise", _A.RESET_GPU, _A.CONTACT_SUPPORT),
    *(Xid(code, "an error in a unit of NVLink 5", _A.CHECK_NVLINK, _A.CHECK_NVLINK) for code in _NVLINK5_UNITS),
    Xid(151, "rotating a key failed", _A.RESTART_VM, _A.CONTACT_SUPPORT),
    Xid(152, "an error of the accelerator's memory unit", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(153, "the accelerator timed out", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(154, "the GPU's recommended recovery has changed", _A.FOLLOW_OTHER, _A.FOLLOW_OTHER),
    Xid(155, "an NVLink error raised by software", _A.RESET_GPU, _A.CHECK_SOFTWARE),
    Xid(156, "a resource was retired", _A.RESET_GPU, _A.NONE),
    Xid(157, "retiring a resource failed", _A.NONE, _A.CONTACT_SUPPORT),
    Xid(158, "a fatal timeout of the GPU", _A.RESET_GPU, _A.CONTACT_SUPPORT),
    Xid(159, "an error on the coherent link that lost no data", _A.CHECK_SOFTWARE, _A.CONTACT_SUPPORT),
    Xid(160, "a channel was retired", _A.NONE, _A.CHECK_SOFTWARE),
    Xid(161, "retiring a channel failed", _A.NONE, _A.CHECK_SOFTWARE),
)  # fmt: skip
XIDS: dict[int, Xid] = {xid.code: xid for xid in _ROWS}


def xid_of(code: int) -> Xid:
    """The row of a code.

    >>> xid_of(63).action.value, xid_of(79).action.value, xid_of(94).kills_workload
    ('none', 'reboot_node', True)
    >>> xid_of(9999).action.value
    'contact_support'
    """
    return XIDS.get(code) or Xid(code, f"XID {code}: not in the catalogue", _A.CONTACT_SUPPORT, _A.CONTACT_SUPPORT)
