"""What the back-test's asset does: the request of a run's configuration, the back-test, its page, its rows in the lake.

No path comes from a run's configuration: whoever reaches the UI can launch a run. Series are those of the settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from hcp_pipelines.domain.clock import typed_instant
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.backtest_site import mixed_site
from hcp_pipelines.fleet.document import FacilityFile
from hcp_pipelines.optimizer.backtest.case import Known
from hcp_pipelines.optimizer.backtest.finished import ASIC, MIXED, PRESETS, Finished, run_facility, run_single
from hcp_pipelines.optimizer.backtest.folder import Sources
from hcp_pipelines.optimizer.backtest.mixed.response.terms import given_terms
from hcp_pipelines.optimizer.backtest.record import Run
from hcp_pipelines.optimizer.backtest.request import GOLDEN_EFFICIENCIES_J_PER_TH, Relearn, Request
from hcp_pipelines.settings import Settings

KEPT_PAGES = 20
HASHPRICES = ("same-day", "previous-day")


@dataclass(frozen=True)
class Asked:
    """A run's configuration, as text from a person."""

    preset: str
    facility: str
    start: str
    end: str
    point: str
    known: str
    hashprice: str
    strategies: Sequence[str]
    efficiencies_j_per_th: Sequence[float]
    relearn: str = ""  # learnt once
    response: Mapping[str, Any] = field(default_factory=dict)  # a programme's terms: of a mixed facility


def run_backtest(connection: "psycopg.Connection[Any]", settings: Settings, asked: Asked, run: Run) -> Finished:
    """Back-test what was asked for on the recorded series of the settings.

    Raises:
        ConfigError: an unknown preset or facility, a wrong instant, no recorded series, or what the back-test refuses.
    """
    request, terms = request_of(settings, asked), given_terms(asked.response)
    if asked.facility:
        return run_facility(request, run, mixed_site(_document(connection, asked.facility)), terms=terms)
    return run_single(request, run) if asked.preset == ASIC else run_facility(request, run, terms=terms)


def request_of(settings: Settings, asked: Asked) -> Request:
    """The request of a configuration.

    Raises:
        ConfigError: a value that is none.
    """
    refuse_unknown("preset", asked.preset, PRESETS)
    refuse_unknown("known", asked.known, [each.value for each in Known])
    refuse_unknown("hashprice", asked.hashprice, HASHPRICES)
    refuse_unknown("relearn", asked.relearn, ["", *(each.value for each in Relearn)])
    if asked.efficiencies_j_per_th and (asked.facility or asked.preset == MIXED):
        raise ConfigError("a mixed facility has miners of its own: leave efficiencies_j_per_th out")
    if asked.response and asked.preset == ASIC and not asked.facility:
        raise ConfigError(f"response is of a mixed facility: name one, or the preset {MIXED}")
    return Request(
        Sources(_recorded(settings), point=asked.point, hold_gaps=True),
        instant("start", asked.start),
        instant("end", asked.end),
        tuple(asked.efficiencies_j_per_th) or GOLDEN_EFFICIENCIES_J_PER_TH,
        Known(asked.known),
        asked.hashprice == "same-day",
        tuple(asked.strategies),
        relearn=Relearn(asked.relearn) if asked.relearn else None,
    )


def instant(name: str, text: str) -> datetime:
    """An instant of a configuration; without an offset it is UTC.

    Raises:
        ConfigError: it is none.
    """
    try:
        return typed_instant(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def write_page(folder: Path, name: str, html: str) -> Path:
    """Write a page; of all there the newest twenty stay (each has plotly's script of 5 MB in it)."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.html"
    path.write_text(html, encoding="utf-8")
    pages = sorted(folder.glob("*.html"), key=lambda page: page.stat().st_mtime, reverse=True)
    for old in pages[KEPT_PAGES:]:
        old.unlink(missing_ok=True)
    return path


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]], lines: Sequence[str]) -> str:
    """A table and lines below it."""
    table = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    table += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join([*table, "", *(f"- {line}" for line in lines)])


def refuse_unknown(name: str, value: str, there_are: Sequence[str]) -> None:
    """Raise ConfigError for a value that is none of those there are."""
    if value not in there_are:
        raise ConfigError(f"{name}: {value!r} is none; there are {', '.join(there_are) or 'none yet'}")


def _recorded(settings: Settings) -> Path:
    folder = settings.recorded_dir or settings.replay_dir
    if folder is None:
        raise ConfigError(
            "there are no recorded series: set HCP_RECORDED_DIR to their folder and start the platform again"
        )
    return folder


def _document(connection: "psycopg.Connection[Any]", facility_id: str) -> FacilityFile:
    documents = dict(connection.execute("select id, document from facilities order by id").fetchall())
    refuse_unknown("facility", facility_id, list(documents))
    return FacilityFile.model_validate(documents[facility_id])
