"""The table of settling deadlines: whole, the only one, and as docs/devices.md shows it."""

from pathlib import Path

import pytest

from hcp_pipelines.devices import settling
from hcp_pipelines.devices.miner import quirks
from hcp_pipelines.devices.settling import TABLE, Transition, families, timing
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.models import MODELS, states_of

ROOT = Path(__file__).resolve().parents[2]


def test_every_firmware_has_every_transition_once():
    for firmware in {row.firmware for row in TABLE}:
        rows = [row for row in TABLE if row.firmware == firmware and not row.model]
        assert sorted(row.transition for row in rows) == sorted(Transition)
    assert {"stock", "luxos", "whatsminer", "whatsminer-v3", "braiins"} == families()


def test_every_row_says_where_it_is_from():
    assert all(row.source for row in TABLE)
    assert all(0 < row.typical_s < row.deadline_s for row in TABLE)


def test_a_version_comes_before_its_family_and_a_stranger_is_as_slow_as_stock():
    assert timing("stock@2022-12", Transition.SLEEP).typical_s > timing("stock@2023-07", Transition.SLEEP).typical_s
    assert timing("nobody", Transition.WAKE, "S99") == timing("stock", Transition.WAKE)


@pytest.mark.parametrize(("model", "firmware"), [(m.model, f) for m in MODELS.values() for f in m.firmware])
def test_ladders_take_their_deadlines_from_it(model, firmware):
    ladder = {step.state: step for step in states_of(MODELS[model], firmware)}
    name = settling.GPU_FAMILY if model.startswith("H100") else firmware
    lowest = DeviceState.IDLE if model.startswith("H100") else DeviceState.CURTAILED
    assert ladder[lowest].settle_s == timing(name, Transition.SLEEP).deadline_s
    slowest = max(timing(name, t).deadline_s for t in (Transition.WAKE, Transition.STEP))
    assert max(step.settle_s for step in ladder.values()) == slowest


def test_nobody_else_has_such_a_table():
    others = [p for p in (ROOT / "hcp_pipelines").rglob("*.py") if p.name != "settling.py"]
    assert [p.name for p in others if "typical_s=" in p.read_text()] == []


def test_the_page_shows_both_tables_as_they_are():
    page = (ROOT / "docs" / "devices.md").read_text()
    assert settling.markdown() in page
    assert quirks.markdown() in page
