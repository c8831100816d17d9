"""The worked example of docs/ml-guide.md runs as it stands, and is as short as it says."""

import importlib.util
import sys
from pathlib import Path

import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.orchestration.training import targets
from hcp_pipelines.storage import models
from tests.support import sine

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "new_model.py"


def test_a_new_model_is_added_in_under_sixty_lines(settings, database, monkeypatch):
    assert len(EXAMPLE.read_text().splitlines()) < 60
    assert "examples/new_model.py" in (EXAMPLE.parents[1] / "ml-guide.md").read_text()
    spec = importlib.util.spec_from_file_location("new_model", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "new_model", example)  # dataclasses look there
    spec.loader.exec_module(example)
    monkeypatch.setattr(targets, "TARGETS", sine.WHERE)
    sine.write(settings, sine.hours())
    try:
        found, version, serves = example.main(settings, "sine", sine.NOW)
    finally:
        sine.drop(settings)
    assert (found.one, found.other, found.is_better) == ("median_trees", "naive", True)
    assert (version, serves) == (2, 1)
    assert models.champion(database, "sine").version == 1
    actions = database.execute("select action from audit_log order by id").fetchall()
    assert [action for (action,) in actions] == ["model.promote", "model.challenge", "model.promote", "model.rollback"]
    with pytest.raises(ConfigError, match="sine has a champion"):
        example.main(settings, "sine", sine.NOW)
