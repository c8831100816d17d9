"""docs/events.md: whoever listens is announced to, and every announcement is on the page with rows that there are."""

import re
from pathlib import Path

from hcp_pipelines.allocator import intake
from hcp_pipelines.api import fanout, known
from hcp_pipelines.orchestration import launcher
from hcp_pipelines.workloads.scheduler import service as scheduler

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ROOT / "hcp_pipelines"
PAGE = (ROOT / "docs" / "events.md").read_text()
SCHEMA = (ROOMS / "storage" / "schema.sql").read_text()


def announced() -> set[str]:
    """Channels that something notifies."""
    sources = [SCHEMA, *(p.read_text() for p in (ROOMS / "storage" / "sql").glob("*.sql"))]
    sources += [path.read_text() for path in ROOMS.rglob("*.py")]
    return {name for text in sources for name in re.findall(r"pg_notify\('(\w+)'", text)}


def test_nobody_listens_for_what_nobody_announces():
    heard = {
        *launcher.CHANNELS,
        *intake.CHANNELS,
        *scheduler.CHANNELS,
        fanout.WORKLOADS,
        fanout.ACCOUNTS,
        known.CHANNEL,
    }
    assert len(heard) > 5
    assert heard <= announced()


def test_every_announcement_is_on_the_page_and_no_other():
    assert set(re.findall(r"`(hcp_\w+)`", PAGE)) == announced()


def test_the_tables_that_it_names_are_there():
    tables = {
        name
        for row in re.findall(r"^\| [^|]+ \| ([^|]+) \|", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert len(tables) > 10
    assert tables <= set(re.findall(r"^create table (\w+)", SCHEMA, re.MULTILINE))
