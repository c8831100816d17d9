"""Hot weeks of a past, and what the scenario `heat-wave` makes of faults in them: as a script for the whole of it.

Where the weather is generated, the weeks are drawn and the scenario's degrees are added. Where it is recorded they are found
in it: days that are as hot as the place's hottest, several in a row. Everything else of the scenario stays as its file has it.
"""

from datetime import UTC, datetime
from typing import Final

import numpy as np

from simulators.scenarios import FaultPlan, FaultShift, Scenario, WeatherShift, scenario_named
from simulators.script import HOUR_S, Script
from simulators.spans import Span
from simulators.streams import DAY_S, FloatArray, stream
from simulators.weather import Weather

HOT_SHARE: Final = 0.93  # days hotter than this share of the place's are hot (setting)
LEAST_DAYS: Final = 3
_SUMMER: Final = (152, 258)  # days of the year in which waves begin: June to mid-September
_WAVES_A_SUMMER: Final = 2.5  # mean (setting: 2022 to 2024 had two to four in Houston by the rule above)
_WAVE: Final = "heat-wave"


def drawn(seed: int, region: str, start_s: int, end_s: int) -> list[tuple[float, float]]:
    """Hot weeks of a region as (from, until), seconds: so many a summer, each as long as the scenario's."""
    length_s = max(shift.until_h for shift in scenario_named(_WAVE).weather) * HOUR_S
    found: list[tuple[float, float]] = []
    for year in range(*(datetime.fromtimestamp(at_s, UTC).year + n for n, at_s in enumerate((start_s, end_s)))):
        random = stream(seed, "heat-waves", region, year)
        new_year_s = datetime(year, 1, 1, tzinfo=UTC).timestamp()
        for day in np.sort(random.integers(*_SUMMER, random.poisson(_WAVES_A_SUMMER))).tolist():
            begin_s = new_year_s + day * DAY_S + DAY_S / 2
            is_free = not found or begin_s > found[-1][1]
            if start_s <= begin_s and begin_s + length_s <= end_s and is_free:
                found.append((begin_s, begin_s + length_s))
    return found


def recorded(temperature_c: FloatArray, start_s: int) -> list[tuple[float, float]]:
    """Runs of hot days in an hourly record that begins at a midnight, as (from, until), seconds."""
    peaks = temperature_c[: len(temperature_c) // 24 * 24].reshape(-1, 24).max(axis=1)
    is_hot = np.r_[False, peaks >= np.quantile(peaks, HOT_SHARE), False]
    edges = np.flatnonzero(np.diff(is_hot.astype(np.int8))).reshape(-1, 2)
    runs = [(first, last) for first, last in edges.tolist() if last - first >= LEAST_DAYS]
    return [(start_s + first * float(DAY_S), start_s + last * float(DAY_S)) for first, last in runs]


def script_of(waves: list[tuple[float, float]], start_s: int, end_s: int, *, is_recorded: bool) -> Script:
    """A script from start to end with the scenario's shifts in each wave; recorded weather is left as it is."""
    wave = scenario_named(_WAVE)
    weather: list[WeatherShift] = []
    faults: list[FaultShift] = []
    for begin_s, until_s in waves:
        span = _span(begin_s, until_s, start_s)
        faults += [shift.model_copy(update=dict(span)) for shift in wave.fault_shifts]
        if not is_recorded:
            weather += [shift.model_copy(update=dict(span)) for shift in wave.weather]
    hours = (end_s - start_s) / HOUR_S
    scenario = Scenario(
        name="fleet-history", description="hot weeks over months, after the heat-wave scenario", repeat_h=hours,
        weather=weather, faults=FaultPlan(profile="typical", factor=wave.faults.factor), fault_shifts=faults,
    )  # fmt: skip
    return Script(scenario, float(start_s))


def _span(begin_s: float, until_s: float, start_s: int) -> Span:
    """As the scenario's: it rises and fades over half a day."""
    rise_h = scenario_named(_WAVE).weather[0].rise_h
    return Span(from_h=(begin_s - start_s) / HOUR_S, until_h=(until_s - start_s) / HOUR_S, rise_h=rise_h)


def temperatures(weather: Weather, point: str, start_s: int, end_s: int) -> FloatArray:
    """Outdoors at the start of each hour, °C."""
    hours = range(start_s // int(HOUR_S), end_s // int(HOUR_S))
    return np.array([weather.at_hour(point, hour) for hour in hours])
