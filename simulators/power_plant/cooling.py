"""The cooling plant of one site: PUE from outdoor temperature and load, and a supply temperature that rises when pumps fail.

PUE = 1 + o(T) · (1 − f + f ÷ load), o(T) = pue − 1 + slope · max(0, T − above): at full load the form of the facility
file, and more at part load since the share f of the plant's power is there at any load. Load is IT power over that of all
devices at their highest state, never taken below 0.05.

Supply temperature: heat that the running pumps can't carry warms the hall at `heating` °C a minute of full load; what they can
carry draws it back to the set-point with the time constant `recovery_s`. Solved exactly over each step.
"""

from collections.abc import Callable
from enum import IntFlag
from math import exp

from simulators.power_plant.config import CoolingConfig

LEAST_LOAD = 0.05
FAN_STAGES = 4
_FAN_STAGE_CELSIUS = 5.0


class Alarm(IntFlag):
    """Bits of the alarm register."""

    PUMP_FAILED = 1
    HIGH_TEMPERATURE = 2
    TRIPPED = 4


def pue(config: CoolingConfig, base_pue: float, outdoor_celsius: float, load_fraction: float) -> float:
    """All-in over IT power. Rises with the outdoor temperature, falls with the load.

    >>> c = CoolingConfig(slope_per_celsius=0.002, above_celsius=20, fixed_fraction=0.2)
    >>> [round(pue(c, 1.05, t, 1.0), 3) for t in (0, 20, 35)]
    [1.05, 1.05, 1.08]
    >>> [round(pue(c, 1.05, 20, load), 3) for load in (1.0, 0.5, 0.1)]
    [1.05, 1.06, 1.14]
    """
    overhead = base_pue - 1.0 + config.slope_per_celsius * max(0.0, outdoor_celsius - config.above_celsius)
    load = min(max(load_fraction, LEAST_LOAD), 1.0)
    return 1.0 + overhead * (1.0 - config.fixed_fraction + config.fixed_fraction / load)


class CoolingPlant:
    """State between control steps. `pue` and the temperatures are those of the last step."""

    def __init__(
        self,
        config: CoolingConfig,
        base_pue: float,
        design_w: float,
        outdoor_celsius: Callable[[float], float],
        at_s: float,
    ) -> None:
        self.config = config
        self._base_pue = base_pue
        self._design_w = max(design_w, 1.0)
        self._outdoor = outdoor_celsius
        self.failed_pumps: frozenset[int] = frozenset()
        self.is_tripped = False
        self.outdoor_celsius = outdoor_celsius(at_s)
        self.supply_celsius = self._base_celsius()
        self.load_fraction = LEAST_LOAD
        self.pue = pue(config, base_pue, self.outdoor_celsius, self.load_fraction)

    @property
    def alarms(self) -> Alarm:
        """What is wrong."""
        alarms = Alarm.PUMP_FAILED if self.failed_pumps else Alarm(0)
        if self.supply_celsius >= self.config.alarm_celsius:
            alarms |= Alarm.HIGH_TEMPERATURE
        return alarms | Alarm.TRIPPED if self.is_tripped else alarms

    @property
    def fan_stage(self) -> int:
        """Dry-cooler fans: stage 1 up to `above`, one more each 5 °C, at most 4."""
        above = max(0.0, self.outdoor_celsius - self.config.above_celsius)
        return min(FAN_STAGES, 1 + int(above / _FAN_STAGE_CELSIUS))

    def step(self, at_s: float, seconds: float, it_w: float) -> bool:
        """Carry an IT power for some seconds up to an instant; whether the interlock has tripped at its end."""
        self.load_fraction = it_w / self._design_w
        self.supply_celsius = self._supply_after(seconds)
        self.outdoor_celsius = self._outdoor(at_s)
        self.pue = pue(self.config, self._base_pue, self.outdoor_celsius, self.load_fraction)
        if self.is_tripped or self.supply_celsius < self.config.trip_celsius:
            return False
        self.is_tripped = True
        return True

    def reset(self) -> bool:
        """Acknowledge a trip; refused while the supply is still too warm."""
        if self.is_tripped and self.supply_celsius >= self.config.alarm_celsius:
            return False
        self.is_tripped = False
        return True

    @property
    def resets_itself_now(self) -> bool:
        """Whether the interlock has tripped, is one that resets itself, and the supply is cool enough."""
        is_cool = self.config.reset_celsius is not None and self.supply_celsius < self.config.reset_celsius
        return self.is_tripped and is_cool

    def _base_celsius(self) -> float:
        return max(self.config.setpoint_celsius, self.outdoor_celsius + self.config.approach_celsius)

    def _supply_after(self, seconds: float) -> float:
        running = self.config.pumps - len(self.failed_pumps)
        capacity = min(1.0, running * self.config.pump_capacity_fraction)
        heating = self.config.heating_celsius_per_minute / 60.0 * max(0.0, self.load_fraction - capacity)
        if capacity <= 0.0:
            return self.supply_celsius + heating * seconds
        ends_at = self._base_celsius() + heating * self.config.recovery_s / capacity
        return ends_at + (self.supply_celsius - ends_at) * exp(-seconds * capacity / self.config.recovery_s)
