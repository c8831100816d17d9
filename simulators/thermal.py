"""Heat: how far chips stand above the air that enters, and what the fans do about it. First order in time, in closed form.

The rise θ follows the equilibrium rise e with θ' = (e − θ) / τ, while e moves in a straight line as power does. So the
temperature of any device at any instant costs one exponential, however long nobody looked. Figures of models are in `models`.
"""

from typing import Final

import numpy as np

from simulators.ramps import Segment
from simulators.streams import FloatArray

MINER_TAU_S: Final = 90.0  # heat sinks of a hash board (setting)
GPU_TAU_S: Final = 40.0  # cold plate or heat sink of a GPU (setting)
FAN_EXPONENT: Final = (
    0.8  # heat transfer grows with air flow to the 0.8 (turbulent forced convection, Dittus and Boelter)
)
LEAST_FAN: Final = 0.2
BOARD_SHARE: Final = 0.7  # of the chips' rise that the board's own sensor sees (setting)


def relax(rise_c: FloatArray, from_c: FloatArray, to_c: FloatArray, segment: Segment, tau_s: FloatArray) -> FloatArray:
    """The rise now, °C: it was `rise_c` at the segment's start, and its equilibrium goes from `from_c` to `to_c`."""
    inside_s = np.clip(segment.since_s, 0.0, segment.ramp_s)
    slope = (to_c - from_c) / segment.ramp_s
    start = rise_c - from_c + slope * tau_s
    ramped = from_c + slope * (inside_s - tau_s) + start * np.exp(-inside_s / tau_s)
    after_s = np.maximum(segment.since_s - segment.ramp_s, 0.0)
    return to_c + (ramped - to_c) * np.exp(-after_s / tau_s)


def miner_rise_c(power_w: FloatArray, least_per_w: FloatArray, target_c: FloatArray, inlet_c: FloatArray) -> FloatArray:
    """Equilibrium rise of chips above inlet air: the fans hold the target while they can.

    `least_per_w`: °C per watt with the fans at full speed.
    """
    least = least_per_w * power_w
    most = least * LEAST_FAN**-FAN_EXPONENT
    return np.clip(np.maximum(target_c - inlet_c, 0.0), least, most)


def fan_fraction(power_w: FloatArray, least_per_w: FloatArray, rise_c: FloatArray) -> FloatArray:
    """Fan speed that holds a rise at a power, 0 to 1."""
    needed = least_per_w * power_w / np.maximum(rise_c, 1e-6)
    return np.clip(needed ** (1.0 / FAN_EXPONENT), LEAST_FAN, 1.0)
