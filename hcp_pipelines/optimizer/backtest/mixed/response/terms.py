"""The terms of a demand response programme, as a YAML file states them, and where its calls come from.

Terms are the programme's own: none is published in general, so nothing here has a default that is worth dollars.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.markets.config_file import ConfigFile, read_config

FILE = ConfigFile("--response", 50_000, "See docs/decisions.md, demand response.")
KNOWN_AHEAD_MINUTES = 600  # day-ahead prices that far ahead are always published: the next day's are at 13:30
Month = Annotated[int, Field(ge=1, le=12)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DearDays(_Part):
    """Called on days whose dearest run of hours is day-ahead at this price or above, until the season's calls are used up."""

    chosen: Literal["dear_days"]
    least_usd_per_mwh: float = Field(gt=0)


class DrawnDays(_Part):
    """Called on days drawn by a seed from the dearest of a season, as often as may be, for one hour to the longest time."""

    chosen: Literal["drawn_days"]
    seed: int = Field(ge=0)
    dearest_fraction: float = Field(default=0.25, gt=0, le=1)


class ListedCalls(_Part):
    """Called at these instants, for the longest time: what a programme did call."""

    chosen: Literal["list"]
    starts: tuple[AwareDatetime, ...] = Field(max_length=1000)


class Terms(_Part):
    """A programme that pays for miners which go when they are called. MW are all-in, hours and months local.

    A call is told `notice_minutes` before it begins, deployed `response_minutes` before; the baseline is what the enrolled miners
    draw then. A month with a call that was not met is not paid for where `forfeits_month` says so.
    """

    version: Literal[1]
    programme: str = Field(default="DR", pattern=r"^DR[A-Za-z0-9_-]{0,30}$")
    mw: float = Field(gt=0, le=10_000)
    months: tuple[Month, ...] = Field(min_length=1)
    from_hour: int = Field(ge=0, le=23)
    to_hour: int = Field(ge=1, le=24)
    notice_minutes: int = Field(gt=0)
    response_minutes: int = Field(default=15, gt=0)
    longest_hours: int = Field(ge=1)
    recovery_hours: int = Field(ge=0, le=24 * 31)
    most_calls_a_season: int = Field(ge=0, le=366)
    capacity_usd_per_mw_month: float = Field(ge=0, le=1e6)
    energy_usd_per_mwh: float = Field(ge=0, le=1e5)
    penalty_usd_per_mwh: float = Field(ge=0, le=1e5)
    forfeits_month: bool = True
    calls: DearDays | DrawnDays | ListedCalls = Field(discriminator="chosen")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.from_hour + self.longest_hours > self.to_hour:
            raise ValueError(
                f"longest_hours {self.longest_hours} don't fit between from_hour {self.from_hour} and to_hour {self.to_hour}"
            )
        if self.notice_minutes + 60 * self.longest_hours > KNOWN_AHEAD_MINUTES:
            raise ValueError(
                f"notice_minutes {self.notice_minutes} and longest_hours {self.longest_hours} are more than "
                f"{KNOWN_AHEAD_MINUTES / 60:g} hours together: prices further ahead may not be known when a call is told"
            )
        return self

    @property
    def hours_a_day(self) -> int:
        """For which it may call."""
        return self.to_hour - self.from_hour

    @property
    def label(self) -> str:
        """Which terms: name, MW, and the beginning of their digest."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return f"{self.programme} {self.mw:g} MW ({digest[:8]})"


def load_terms(path: Path) -> Terms:
    """The terms in a file.

    Raises:
        ConfigError: it can't be read or is wrong; the message names file and field.
    """
    return read_config(FILE, path, _checked)


def given_terms(document: Mapping[str, Any]) -> Terms | None:
    """The terms in a run's configuration; None where it has none.

    Raises:
        ConfigError: a field is wrong.
    """
    if not document:
        return None
    try:
        return _checked(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("response", *first["loc"]))
        raise ConfigError(f"{where}: {first['msg']}. {FILE.help_text}") from None


def _checked(document: Any) -> Terms:
    return Terms.model_validate(document)
