"""One table of limits per miner model, and what is wrong with a miner by it: the counterpart of `gpu_node.limits` (ER-49).

Memory is no matter of a miner's (ER-48): what counts is the heat of its chips. Its firmware takes power back by itself some
degrees above. All figures are settings: makers publish ranges of the air, not of the chips. Measure, and change them here.
"""

from dataclasses import dataclass

from hcp_pipelines.devices.issues import DeviceIssue
from hcp_pipelines.devices.miner.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class MinerLimits:
    """Limits of one model, by the model table's name: of the hottest chips that it tells of."""

    model: str
    warning_celsius: float = 80.0
    critical_celsius: float = 85.0


_LIMITS = {
    limits.model: limits
    for limits in (
        MinerLimits("S21"),
        MinerLimits("S21 XP"),
        MinerLimits("S19 XP"),
        MinerLimits("M60S", 85.0, 95.0),
    )
}
_DEFAULT = MinerLimits("")


def limits_of(model: str) -> MinerLimits:
    """The limits of a model; those of an S21 where it is unknown."""
    return _LIMITS.get(model, _DEFAULT)


def issues_of(telemetry: Telemetry, model: str) -> tuple[DeviceIssue, ...]:
    """What is wrong with a miner.

    >>> [issue.severity for issue in issues_of(Telemetry(200.0, chip_temperature_celsius=86.0), "S21")]
    ['critical']
    >>> issues_of(Telemetry(200.0), "S21")
    ()
    """
    heat, limits = telemetry.chip_temperature_celsius, limits_of(model)
    if heat is None or heat <= limits.warning_celsius:
        return ()
    if heat > limits.critical_celsius:
        return (DeviceIssue("critical", "high_temperature", f"{heat:.0f} °C, over {limits.critical_celsius:.0f}"),)
    return (DeviceIssue("warning", "elevated_temperature", f"{heat:.0f} °C, over {limits.warning_celsius:.0f}"),)
