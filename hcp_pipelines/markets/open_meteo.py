"""Open-Meteo: hourly outdoor temperatures of past days at a place. A weather model's reanalysis, not a station.

Source: Open-Meteo Historical Weather API, `/v1/archive`; times are GMT without an offset.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hcp_pipelines.domain.errors import MarketError
from hcp_pipelines.markets.http import MarketHttp
from hcp_pipelines.markets.pace import Limit
from hcp_pipelines.markets.values import number

REAL_BASE_URL = "https://archive-api.open-meteo.com"
LIMIT = Limit(600, 60.0)  # without a key
ARCHIVE = "/v1/archive"
TEMPERATURE = "temperature_2m"
MAX_DAYS = 366  # asked for at once


class Place(NamedTuple):
    """A place by the name that its rows carry, degrees."""

    name: str
    latitude: float
    longitude: float


# The middle of what each hub's price stands for.
PLACES = (
    Place("HOUSTON", 29.76, -95.37),
    Place("NORTH", 32.78, -96.80),
    Place("WEST", 31.85, -102.37),
    Place("SOUTH", 27.80, -97.40),
)


class Temperature(NamedTuple):
    """The temperature of an hour at a place, °C."""

    start_at: datetime
    place: str
    temperature_celsius: float


class OpenMeteoClient:
    """Past weather."""

    def __init__(self, http: MarketHttp) -> None:
        self._http = http

    async def temperatures(self, place: Place, start: datetime, end: datetime) -> list[Temperature]:
        """The hours that start in [start, end) and are known, oldest first.

        Raises:
            MarketError: no reply, or one of another shape.
        """
        found: list[Temperature] = []
        first, last = start.astimezone(UTC).date(), (end - timedelta(microseconds=1)).astimezone(UTC).date()
        while first <= last:
            until = min(last, first + timedelta(days=MAX_DAYS - 1))
            found += await self._days(place, first.isoformat(), until.isoformat())
            first = until + timedelta(days=1)
        return [one for one in found if start <= one.start_at < end]

    async def _days(self, place: Place, first: str, last: str) -> list[Temperature]:
        where = {"latitude": str(place.latitude), "longitude": str(place.longitude)}
        what = {"hourly": TEMPERATURE, "timezone": "GMT", "start_date": first, "end_date": last}
        reply = await self._http.get_json(ARCHIVE, {**where, **what})
        try:
            hourly = reply.body["hourly"]
            pairs = list(zip(hourly["time"], hourly[TEMPERATURE], strict=True))
            stamped = [(datetime.fromisoformat(text).replace(tzinfo=UTC), value) for text, value in pairs]
        except (KeyError, TypeError, ValueError) as error:
            raise MarketError(f"{ARCHIVE}: not hours of {TEMPERATURE}: {reply.body!r:.200}.") from error
        return [Temperature(at, place.name, number(value)) for at, value in stamped if value is not None]
