"""How a reply of Open-Meteo's is asked to look: for which places, in which time zone, units and way of telling time.

What it says is in `weather_service`. As there, one offset holds for a whole reply: that of its first instant. Only temperatures
are known here, hourly, daily and now. Source: Open-Meteo, Weather Forecast API.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from simulators.central import zone_offset_s

HOURLY: Final = "temperature_2m"
DAILY: Final = ("temperature_2m_max", "temperature_2m_min", "temperature_2m_mean")
MOST_PLACES: Final = 100
_AUTO: Final = "America/Chicago"  # all climates of this world are in Texas


class WrongError(Exception):
    """What is wrong with a request."""


class Form(NamedTuple):
    """How instants and degrees are written."""

    offset_s: int
    zone: str
    short: str
    is_unixtime: bool
    is_fahrenheit: bool

    @property
    def time_unit(self) -> str:
        """What instants are written as."""
        return "unixtime" if self.is_unixtime else "iso8601"

    @property
    def degree(self) -> str:
        """What temperatures are in."""
        return "°F" if self.is_fahrenheit else "°C"

    def instant(self, at_s: int) -> str | int:
        """An instant; as text a reading of the zone's clocks without an offset."""
        return at_s if self.is_unixtime else self._local(at_s).strftime("%Y-%m-%dT%H:%M")

    def day(self, at_s: int) -> str | int:
        """The day that begins at an instant."""
        return at_s if self.is_unixtime else self._local(at_s).strftime("%Y-%m-%d")

    def degrees(self, celsius: float | None) -> float | None:
        """A temperature, to a tenth; None stays."""
        if celsius is None:
            return None
        return round(celsius * 1.8 + 32.0 if self.is_fahrenheit else celsius, 1)

    def heading(self, latitude: float, longitude: float) -> dict[str, object]:
        """What a place's reply begins with."""
        return {
            "latitude": latitude, "longitude": longitude, "generationtime_ms": 0.1, "utc_offset_seconds": self.offset_s,
            "timezone": self.zone, "timezone_abbreviation": self.short, "elevation": 15.0,
        }  # fmt: skip

    def _local(self, at_s: int) -> datetime:
        return datetime.fromtimestamp(at_s + self.offset_s, UTC)


def form_of(query: Mapping[str, str], at_s: int) -> Form:
    """The form that is asked for.

    Raises:
        WrongError: there is no such zone, unit or format here.
    """
    _one_of(query, "format", ("json",))
    time, degree = (
        _one_of(query, "timeformat", ("iso8601", "unixtime")),
        _one_of(query, "temperature_unit", ("celsius", "fahrenheit")),
    )
    asked = query.get("timezone", "GMT")
    zone = {"auto": _AUTO, "UTC": "GMT"}.get(asked, asked)
    try:
        offset_s, short = zone_offset_s(zone, at_s)
    except ValueError as error:
        raise WrongError("Invalid timezone") from error
    return Form(offset_s, zone, short, time == "unixtime", degree == "fahrenheit")


def _one_of(query: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    text = query.get(name, known[0])
    if text not in known:
        raise WrongError(f"Parameter '{name}': {text[:40]!r} is not known here; there is {', '.join(known)}.")
    return text


def places(query: Mapping[str, str]) -> list[tuple[float, float]]:
    """The places, degrees: latitudes and longitudes with commas between.

    Raises:
        WrongError: they are none, too many, or not as many of each.
    """
    try:
        latitudes, longitudes = ([float(each) for each in query[name].split(",")] for name in ("latitude", "longitude"))
    except (KeyError, ValueError) as error:
        raise WrongError("Parameters 'latitude' and 'longitude' must be numbers.") from error
    if len(latitudes) != len(longitudes) or len(latitudes) > MOST_PLACES:
        raise WrongError("Parameter 'latitude' and 'longitude' must have the same number of elements, at most 100.")
    for latitude, longitude in zip(latitudes, longitudes, strict=True):
        if not -90 <= latitude <= 90:
            raise WrongError(f"Latitude must be in range of -90 to 90°. Given: {latitude}.")
        if not -180 <= longitude <= 180:
            raise WrongError(f"Longitude must be in range of -180 to 180°. Given: {longitude}.")
    return list(zip(latitudes, longitudes, strict=True))


def variables(query: Mapping[str, str], name: str, known: tuple[str, ...]) -> list[str]:
    """What is asked for under a name; empty: nothing.

    Raises:
        WrongError: something that is not known here.
    """
    found = [each.strip() for each in query[name].split(",")] if query.get(name) else []
    if wrong := [each for each in found if each not in known]:
        raise WrongError(f"Parameter '{name}': {wrong[0][:40]!r} is not known here; there is {', '.join(known)}.")
    return found
