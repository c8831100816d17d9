"""Examples and tables of the documentation against the code that reads them."""

import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from hcp_pipelines.devices.settling import families
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ControlMode, DeviceState, DispatchRegime, Mode
from hcp_pipelines.domain.ticks import Quality, Stream
from hcp_pipelines.edge.config import EdgeConfig, load_edge_config
from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.fleet.document import FacilityFile
from hcp_pipelines.fleet.facility_file import parse_facility
from hcp_pipelines.fleet.models import MODELS
from simulators import replay
from simulators.clock import ManualClock
from simulators.faults import FAULTS
from simulators.http import Services
from simulators.scenarios import scenario_names
from simulators.series import World
from simulators.settings import WorldConfig, load_config

DOCS = Path(__file__).resolve().parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text()


def example(name: str) -> str:
    """The first YAML block of a page."""
    return page(name).split("```yaml\n")[1].split("```")[0]


def keys_below(model: type[BaseModel]) -> set[str]:
    """Every key that a file of this shape may have."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found |= {field.alias or name}
        for part in _models_in(field.annotation):
            found |= keys_below(part)
    return found


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if get_origin(annotation) is Literal:
        return []
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


@pytest.fixture
def edge_file(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(example("edge-site-file.md"))
    return path


def test_the_gateway_example_loads(edge_file):
    config = load_edge_config(edge_file)
    shape = SiteShape.of(config.facilities[0])
    assert shape.slots == 333
    assert config.facilities[0].fallback == {"s21": DeviceState.CURTAILED, "h100": DeviceState.INFERENCE_BATCH}


def test_the_gateway_page_shows_every_key():
    text = page("edge-site-file.md")
    assert [key for key in sorted(keys_below(EdgeConfig)) if key not in text] == []
    assert f"{DeviceState.TRAINING.value} {DeviceState.TRAINING.label}" in text
    for state in DeviceState:
        assert f"{state.value} {state.label}" in text


def test_a_mistake_in_the_gateway_file_points_to_the_page(edge_file):
    edge_file.write_text(edge_file.read_text().replace("first_slot: 222", "first_slot: 221"))
    with pytest.raises(ConfigError, match=r"groups s21 and h100 share slot 221 \(docs/edge-site-file\.md\)"):
        load_edge_config(edge_file)


def test_the_facility_example_loads_and_the_page_names_every_key():
    parse_facility(example("facility-file.md"), "docs/facility-file.md")
    text = page("facility-file.md")
    assert [key for key in sorted(keys_below(FacilityFile)) if key not in text] == []


def test_the_table_of_models_is_the_code():
    text = page("facility-file.md")
    for model in MODELS.values():
        row = next(line for line in text.splitlines() if line.startswith(f"| {model.model} |"))
        power = re.search(r"([\d.]+) kW", row)
        assert power
        assert float(power[1]) == model.power_kw
        assert row.split("|")[4].strip() == ", ".join(model.firmware)
        if model.hash_rate_th_per_s:
            assert f"{model.hash_rate_th_per_s:g} TH/s" in row
            assert f"{model.efficiency_j_per_th:.1f} J/TH" in row
    assert families() == {name for model in MODELS.values() for name in model.firmware}


def test_the_world_example_loads(tmp_path):
    path = tmp_path / "world.yaml"
    path.write_text(example("world.md"))
    config = load_config(path)
    assert config.points == ["HB_NORTH"]
    assert World.load(config).start_s() == 1_735_689_600


def test_the_world_page_shows_every_key():
    written = yaml.safe_load(example("world.md"))
    assert set(written) == {field.alias or name for name, field in WorldConfig.model_fields.items()}


class _Well:
    def problem(self) -> str:
        return ""

    def devices(self) -> int:
        return 0


def test_the_world_page_lists_the_paths_served(tmp_path):
    path = tmp_path / "world.yaml"
    path.write_text(example("world.md"))
    app = Services(World.load(load_config(path)), ManualClock(1_735_689_600), _Well()).routed()
    served = {re.sub(r":int", "", route.path) for route in app.routes}
    table = page("world.md").split("## Served over HTTP")[1].split("The ERCOT reports in particular")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `/")]
    assert {name for row in rows for name in re.findall(r"`(/[^`]*)`", row.split("|")[1])} == served


def test_the_world_page_lists_the_scenarios():
    table = page("world.md").split("| scenario |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == set(scenario_names())


def test_the_world_page_lists_the_faults():
    rows = page("world.md").split("| fault | what it does |")[1].split("\n\n")[0].splitlines()
    named = {name for row in rows[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == set(FAULTS)


def test_the_world_page_lists_the_columns_of_a_recording():
    table = page("world.md").split("| series | columns |")[1].split("\n\n")[0]
    rows = {
        row.split("|")[1].strip(): set(re.findall(r"`(\w+)`", row))
        for row in table.splitlines()
        if row.startswith("| ")
    }
    assert rows["real-time price"] == {replay.START, replay.RT, "settlement_point"}
    assert rows["day-ahead price"] == {replay.START, replay.DA, "settlement_point"}
    assert rows["bitcoin price"] == {replay.START, *replay._CANDLE}
    assert rows["bitcoin network"] == set(replay._NETWORK)
    assert rows["outdoor temperature, optional"] == {replay.START, replay.TEMPERATURE}
    assert rows["block heights, optional"] == {"date_utc", "blocks_per_day", "last_height"}


def test_the_glossary_has_every_word_of_the_vocabulary():
    text = page("glossary.md")
    words = [*Mode, *Stream, *Quality, *ControlMode, *DispatchRegime, *(state.label for state in DeviceState)]
    assert [str(word) for word in words if not re.search(rf"\b{re.escape(word)}\b", text)] == []
