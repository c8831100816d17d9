"""The weather service in Open-Meteo's shape: an archive, and a forecast whose past is as it was and whose error grows.

How wrong: a degree tomorrow, two in four days, four at most (standard deviation; ours). How a reply looks is in `weather_form`.
Source: Open-Meteo, Weather Forecast API and Historical Weather API.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Final

from simulators.exchanges import Answer
from simulators.series import GENERATED, RECORDED, Quote, World
from simulators.streams import DAY_S, smooth_noise
from simulators.weather_form import DAILY, HOURLY, Form, WrongError, form_of, places, variables

HOUR_S: Final = 3600
MOST_DAYS: Final = 16
MOST_PAST_DAYS: Final = 92
MOST_ARCHIVE_DAYS: Final = 400
MOST_HOURS: Final = 40_000  # of all places together
_HOURS: Final = 24
_ERROR_TAU_H: Final = 30.0
_RANGE: Final = ("start_date", "end_date")
# Where the climates of `weather` are: a place is served by the nearest.
_PLACES: Final = {
    "HB_HOUSTON": (29.76, -95.37),
    "HB_NORTH": (32.78, -96.80),
    "HB_WEST": (31.85, -102.37),
    "HB_SOUTH": (27.8, -97.4),
}

Known = Callable[[str, int], Quote | None]  # the temperature of a point at an hour; None: not known yet


def forecast(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Temperatures by hour, day and now: from `past_days` ago to `forecast_days` on, or of the days that are named."""
    try:
        form = form_of(query, int(now_s))
        hours = _asked_hours(query, form, int(now_s))
        return _told(world, query, form, hours, now_s, lambda point, at_s: _expected(world, point, at_s, now_s))
    except WrongError as error:
        return _refused(str(error))


def archive(world: World, query: Mapping[str, str], now_s: float) -> Answer:
    """Temperatures of whole days by hour or day, null for what is not over yet."""
    try:
        first, last = (date.fromisoformat(query[name]) for name in _RANGE)
        if not 0 <= (last - first).days <= MOST_ARCHIVE_DAYS or not 2000 <= first.year <= last.year <= 2200:
            raise ValueError
    except (KeyError, ValueError):
        return _refused(f"Parameters 'start_date' and 'end_date' must be days, at most {MOST_ARCHIVE_DAYS} apart.")
    try:
        form = form_of(query, _day_s(first, 0))
        if not query.get("hourly") and not query.get("daily"):
            raise WrongError(f"Nothing is asked for: hourly={HOURLY} or daily={','.join(DAILY)}.")
        hours = range(_day_s(first, form.offset_s), _day_s(last, form.offset_s) + DAY_S, HOUR_S)

        def known(point: str, at_s: int) -> Quote | None:
            return world.temperature_c(point, at_s) if at_s + HOUR_S <= now_s else None

        return _told(world, query, form, hours, now_s, known)
    except WrongError as error:
        return _refused(str(error))


def nearest_place(latitude: float, longitude: float) -> str:
    """The settlement point whose weather is nearest to a place, degrees."""
    return min(_PLACES, key=lambda name: (_PLACES[name][0] - latitude) ** 2 + (_PLACES[name][1] - longitude) ** 2)


def _told(
    world: World, query: Mapping[str, str], form: Form, hours: range, now_s: float, known: Known
) -> tuple[object, str, int]:
    """A reply for each place that is asked of: of one by itself, of several a list."""
    hourly, daily = variables(query, "hourly", (HOURLY,)), variables(query, "daily", DAILY)
    current = variables(query, "current", (HOURLY,))
    bodies, quotes = [], []
    asked = places(query)
    if len(asked) * len(hours) > MOST_HOURS:
        raise WrongError(f"Too many hours of too many places: {len(asked) * len(hours)}, at most {MOST_HOURS}.")
    for latitude, longitude in asked:
        point = nearest_place(latitude, longitude)
        body = form.heading(latitude, longitude)
        found = [known(point, at_s) for at_s in hours] if hourly or daily else []
        if current or query.get("current_weather") == "true":
            body |= _now(world, point, form, now_s, is_old=not current)
        if hourly:
            body |= _by_hour(form, hours, found)
        if daily:
            body |= _by_day(form, hours, found, daily)
        quotes += found or [world.temperature_c(point, now_s)]
        bodies.append(body)
    return bodies[0] if len(bodies) == 1 else bodies, _source(quotes), 200


def _now(world: World, point: str, form: Form, now_s: float, *, is_old: bool) -> dict[str, object]:
    at_s = int(now_s) // 900 * 900
    told = {"time": form.instant(at_s), "interval": 900}
    units, degrees = (
        {"time": form.time_unit, "interval": "seconds"},
        form.degrees(world.temperature_c(point, at_s).value),
    )
    if is_old:
        return {
            "current_weather_units": units | {"temperature": form.degree},
            "current_weather": told | {"temperature": degrees},
        }
    return {"current_units": units | {HOURLY: form.degree}, "current": told | {HOURLY: degrees}}


def _by_hour(form: Form, hours: range, found: list[Quote | None]) -> dict[str, object]:
    values = [form.degrees(quote and quote.value) for quote in found]
    units = {"time": form.time_unit, HOURLY: form.degree}
    return {"hourly_units": units, "hourly": {"time": [form.instant(at_s) for at_s in hours], HOURLY: values}}


def _by_day(form: Form, hours: range, found: list[Quote | None], asked: Iterable[str]) -> dict[str, object]:
    """Highest, lowest and mean of each day; null where an hour is not known."""
    days = [found[n : n + _HOURS] for n in range(0, len(found), _HOURS)]
    known = [[quote.value for quote in day if quote is not None] for day in days]
    ways: dict[str, Callable[[list[float]], float]] = dict(
        zip(DAILY, (max, min, lambda values: sum(values) / len(values)), strict=True)
    )
    told: dict[str, object] = {"time": [form.day(at_s) for at_s in hours[::_HOURS]]}
    for name in asked:
        told[name] = [form.degrees(ways[name](values) if len(values) == _HOURS else None) for values in known]
    units = {"time": form.time_unit, **dict.fromkeys(asked, form.degree)}
    return {"daily_units": units, "daily": told}


def _expected(world: World, point: str, at_s: int, now_s: float) -> Quote:
    """The temperature of an hour as it is expected at an instant: a forecast of each day has errors of its own."""
    true = world.temperature_c(point, at_s)
    if at_s <= now_s:
        return true
    issued_day, day = int(now_s // DAY_S), at_s // DAY_S
    lead_days = (at_s - now_s) / DAY_S
    errors = smooth_noise(world.config.seed, f"weather.forecast.{point}.{issued_day}", day, _HOURS, _ERROR_TAU_H)
    return Quote(true.value + min(0.8 + 0.3 * lead_days, 4.0) * float(errors[at_s % DAY_S // HOUR_S]), GENERATED)


def _asked_hours(query: Mapping[str, str], form: Form, now_s: int) -> range:
    """The hours of a forecast, whole days of the zone."""
    today_s = (now_s + form.offset_s) // DAY_S * DAY_S - form.offset_s
    earliest_s, end_s = today_s - MOST_PAST_DAYS * DAY_S, today_s + MOST_DAYS * DAY_S
    if not any(name in query for name in _RANGE):
        past, ahead = _days(query, "past_days", 0, MOST_PAST_DAYS), _days(query, "forecast_days", 7, MOST_DAYS)
        return range(today_s - past * DAY_S, today_s + ahead * DAY_S, HOUR_S)
    if "past_days" in query or "forecast_days" in query:
        raise WrongError("Parameter 'start_date' and 'end_date' can't be given with 'past_days' or 'forecast_days'.")
    try:
        first_s, last_s = (_day_s(date.fromisoformat(query[name]), form.offset_s) for name in _RANGE)
    except (KeyError, ValueError) as error:
        raise WrongError("Both 'start_date' and 'end_date' must be set, as yyyy-mm-dd.") from error
    if not earliest_s <= first_s <= last_s < end_s:
        allowed = f"{form.day(earliest_s)} to {form.day(end_s - DAY_S)}"
        raise WrongError(f"Parameter 'start_date' or 'end_date' is out of allowed range from {allowed}.")
    return range(first_s, last_s + DAY_S, HOUR_S)


def _day_s(day: date, offset_s: int) -> int:
    return (day - date(1970, 1, 1)).days * DAY_S - offset_s


def _days(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal() or len(text) > 3 or int(text) > most:
        raise WrongError(f"Parameter '{name}' is out of allowed range from 0 to {most}. Given: {text[:20]}.")
    return int(text)


def _source(quotes: list[Quote | None]) -> str:
    known = [quote for quote in quotes if quote is not None]
    return RECORDED if known and all(quote.source == RECORDED for quote in known) else GENERATED


def _refused(reason: str) -> Answer:
    return {"error": True, "reason": reason}, GENERATED, 400
