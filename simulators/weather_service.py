"""The weather service's forecast, in Open-Meteo's shape: past hours as they were, hours to come with an error that grows.

How wrong: a degree tomorrow, two in four days, four at most (standard deviation; ours). The past alone is in `history`.
Source: Open-Meteo, Weather Forecast API.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from simulators.exchanges import Answer
from simulators.history import WEATHER, nearest_place
from simulators.series import GENERATED, RECORDED, Quote, World
from simulators.streams import DAY_S, smooth_noise

HOUR_S: Final = 3600
MOST_DAYS: Final = 16
MOST_PAST_DAYS: Final = 92
_HOURS: Final = 24
_ERROR_TAU_H: Final = 30.0
_UNITS: Final = {"time": "iso8601", WEATHER: "°C"}


class _WrongError(Exception):
    """What is wrong with a request."""


def forecast(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """`hourly` and `current` temperatures of a place, from `past_days` ago to `forecast_days` on, today the first of them."""
    try:
        latitude, longitude = _place(query)
        past, ahead = _days(query, "past_days", 0, MOST_PAST_DAYS), _days(query, "forecast_days", 7, MOST_DAYS)
        asked = {name: _variables(query, name) for name in ("hourly", "current") if name in query}
    except _WrongError as error:
        return {"error": True, "reason": str(error)}, GENERATED, 400
    point, today_s = nearest_place(latitude, longitude), int(now_s) // DAY_S * DAY_S
    body: dict[str, object] = {
        "latitude": latitude, "longitude": longitude, "generationtime_ms": 0.1, "utc_offset_seconds": 0, "timezone": "GMT",
        "timezone_abbreviation": "GMT", "elevation": 15.0,
    }  # fmt: skip
    source = world.temperature_c(point, now_s).source
    if "current" in asked:
        at_s = int(now_s) // 900 * 900
        told = {"time": _text(at_s), "interval": 900, WEATHER: round(world.temperature_c(point, at_s).value, 1)}
        body |= {"current_units": _UNITS | {"interval": "seconds"}, "current": told}
    if "hourly" in asked:
        hours = range(today_s - past * DAY_S, today_s + ahead * DAY_S, HOUR_S)
        quotes = [_expected(world, point, at_s, now_s) for at_s in hours]
        source = RECORDED if quotes and all(quote.source == RECORDED for quote in quotes) else GENERATED
        values = [round(quote.value, 1) for quote in quotes]
        body |= {"hourly_units": _UNITS, "hourly": {"time": [_text(at_s) for at_s in hours], WEATHER: values}}
    return body, source, 200


def _expected(world: World, point: str, at_s: int, now_s: float) -> Quote:
    """The temperature of an hour as it is expected at an instant: a forecast of each day has errors of its own."""
    true = world.temperature_c(point, at_s)
    if at_s <= now_s:
        return true
    issued_day, day = int(now_s // DAY_S), at_s // DAY_S
    lead_days = (at_s - now_s) / DAY_S
    errors = smooth_noise(world.config.seed, f"weather.forecast.{point}.{issued_day}", day, _HOURS, _ERROR_TAU_H)
    return Quote(true.value + min(0.8 + 0.3 * lead_days, 4.0) * float(errors[at_s % DAY_S // HOUR_S]), GENERATED)


def _place(query: Mapping[str, str]) -> tuple[float, float]:
    try:
        latitude, longitude = float(query["latitude"]), float(query["longitude"])
    except (KeyError, ValueError) as error:
        raise _WrongError("Parameters 'latitude' and 'longitude' must be numbers.") from error
    if not -90 <= latitude <= 90:
        raise _WrongError(f"Latitude must be in range of -90 to 90°. Given: {latitude}.")
    if not -180 <= longitude <= 180:
        raise _WrongError(f"Longitude must be in range of -180 to 180°. Given: {longitude}.")
    return latitude, longitude


def _days(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 3 or int(text) > most:
        raise _WrongError(f"Parameter '{name}' is out of allowed range from 0 to {most}. Given: {text[:20]}.")
    return int(text)


def _variables(query: Mapping[str, str], name: str) -> list[str]:
    found = [each.strip() for each in query[name].split(",")]
    if wrong := [each for each in found if each != WEATHER]:
        raise _WrongError(f"Parameter '{name}': {wrong[0][:40]!r} is not known here; there is {WEATHER}.")
    return found


def _text(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M")
