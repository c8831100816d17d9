"""The facilities of a made-up past: three kinds of miners and a hall of GPUs each, at four settlement points. None is real."""

from collections.abc import Iterator
from typing import Final

from simulators.settings import GroupConfig, SiteConfig, StateConfig
from simulators.tables import CURTAILED, IDLE

FULL_MINING, WORKING = 3, 5
POINTS: Final = ("HB_HOUSTON", "HB_NORTH", "HB_WEST", "HB_SOUTH")
# Group, kind, model, watts at work, share of a facility's devices in twelfths: about the demo fleet's.
_LINES: Final = (
    ("s21", "ASIC", "S21", 3500.0, 4), ("m60s", "ASIC", "M60S", 3440.0, 3), ("s19xp", "ASIC", "S19 XP", 3010.0, 2),
    ("h100", "GPU", "H100 SXM5", 1300.0, 3),
)  # fmt: skip
_IDLE_GPU_W: Final = 450.0
_SIZES: Final = (0.5, 1.0, 1.5)  # facilities of a point differ


def sites(facilities: int, devices: int) -> list[SiteConfig]:
    """So many facilities of so many devices on average.

    >>> [site.site for site in sites(5, 240)]
    ['houston-1', 'north-1', 'west-1', 'south-1', 'houston-2']
    """
    return [_site(number, devices) for number in range(facilities)]


def _site(number: int, devices: int) -> SiteConfig:
    point = POINTS[number % len(POINTS)]
    place, of_place = point.removeprefix("HB_").lower(), number // len(POINTS)
    here = round(devices * _SIZES[of_place % len(_SIZES)])
    return SiteConfig(site=f"{place}-{of_place + 1}", settlement_point=point, pue=1.06, groups=list(_groups(here)))


def _groups(devices: int) -> Iterator[GroupConfig]:
    first = 0
    for name, kind, model, watts, twelfths in _LINES:
        count = max(8, devices * twelfths // 12 // 8 * 8)
        states = [StateConfig(state=IDLE, power_w=_IDLE_GPU_W), StateConfig(state=WORKING, power_w=watts)]
        if kind == "ASIC":
            states = [StateConfig(state=CURTAILED, power_w=25.0), StateConfig(state=FULL_MINING, power_w=watts)]
        made = {"group": name, "kind": kind, "model": model, "first_slot": first, "devices": count, "states": states}
        yield GroupConfig.model_validate(made)
        first += count
