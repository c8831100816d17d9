"""Where the platform is enrolled for demand response: the server, who we are there, and what each programme's events mean.

One YAML file, `HCP_OPENADR_FILE` (docs/openadr.md).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hcp_pipelines.markets.config_file import ConfigFile, read_config
from hcp_pipelines.markets.openadr_events import is_confidential

WORLD = "world"
_FILE = ConfigFile("HCP_OPENADR_FILE", 200_000, "docs/openadr.md describes the file.")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Programme(_Strict):
    """What events of one market context (2.0b) or programme (3.1) are, and on which terms.

    Attributes:
        means: `response`: an obligation is taken on for each. `deployment`: what was sold in `name` is called. `alert`: an EEA
            level, which calls what `calls` names. `base_point`: a limit for facilities that follow base points.
        name: of the obligations, as `hcp grid award --programme`.
        facilities: those enrolled; an event may name fewer by its targets.
        notice_s: a response has to be told so long before it begins, simulated; less where the event's own ramp is longer.
        most_mw: a response that asks for more, all facilities together, is answered out.
        most_hours: simulated; a response that lasts longer is answered out, any other is over for us by then.
        most_days_ahead: simulated; an event that begins later is answered out.
        most_events_a_day: simulated; what is told beyond that, changes included, is answered out. Cancellations are heard.
        least_fraction: of the facilities' capacity; a base point below is answered out.
        mw_by_level: what levels of a response mean, all facilities together.
        calls: programmes that an alert calls, by the least level that does.
    """

    means: Literal["response", "deployment", "alert", "base_point"]
    name: str = Field(default="DR", pattern=r"^[A-Za-z0-9_-]{1,40}$")
    facilities: tuple[str, ...] = Field(min_length=1, max_length=200)
    notice_s: float = Field(default=600.0, ge=0, le=86_400)
    recovery_s: float = Field(default=0.0, ge=0, le=86_400)
    penalty_usd_per_mwh: float = Field(default=15_000.0, ge=0, le=1e6)
    tranche: str = Field(default="all", min_length=1, max_length=40)
    most_mw: float = Field(default=25.0, gt=0, le=1e6)
    most_hours: float = Field(default=24.0, gt=0, le=8784)
    most_days_ahead: float = Field(default=14.0, gt=0, le=400)
    most_events_a_day: int = Field(default=100, ge=1, le=10_000)
    least_fraction: float = Field(default=0.25, ge=0, le=1)
    mw_by_level: dict[int, float] = Field(default_factory=dict)
    calls: dict[str, int] = Field(default_factory=dict)


class Enrolment(_Strict):
    """The whole file.

    Attributes:
        vtn_url: `world`: the simulated world's. A plain `http://` on this machine only.
        poll_s: real seconds between polls at least; a server may ask for more.
        report_s: real seconds between samples of reported power at least.
        resources: what the server calls our facilities, where it is not by their own names.
        client_secret_file: 3.1's credentials, one line `CLIENT_ID:SECRET`.
    """

    version: Literal[1]
    protocol: Literal["2.0b", "3.1"] = "2.0b"
    vtn_url: str = Field(pattern=r"^world$|^https?://[^\s?#]+$")
    ven_name: str = Field(default="hcp", min_length=1, max_length=100)
    poll_s: float = Field(default=10.0, ge=0.5, le=3600)
    report_s: float = Field(default=10.0, ge=1, le=3600)
    certificate: Path | None = None
    key: Path | None = None
    passphrase_file: Path | None = None
    ca: Path | None = None
    vtn_fingerprint: str = ""
    sign: bool = True
    client_secret_file: Path | None = None
    resources: dict[str, str] = Field(default_factory=dict)
    programmes: dict[str, Programme] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.vtn_url != WORLD and not is_confidential(self.vtn_url):
            raise ValueError(
                f"vtn_url {self.vtn_url}: secrets and events would go in clear: https://, or http://127.0.0.1"
            )
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.protocol == "3.1" and self.client_secret_file is None:
            raise ValueError("3.1 needs client_secret_file")
        return self

    @property
    def facilities(self) -> tuple[str, ...]:
        """Every facility enrolled in something, in order."""
        return tuple(sorted({facility for programme in self.programmes.values() for facility in programme.facilities}))

    @property
    def facility_of(self) -> Mapping[str, str]:
        """Our facilities by what the server calls them."""
        return {facility: facility for facility in self.facilities} | self.resources

    def resource_of(self, facility_id: str) -> str:
        """What the server calls a facility."""
        return next((resource for resource, own in self.resources.items() if own == facility_id), facility_id)


def load_enrolment(path: Path) -> Enrolment:
    """Read and check the file.

    Raises:
        ConfigError: it can't be read, is not YAML, or a field is wrong.
    """
    return read_config(_FILE, path, Enrolment.model_validate)
