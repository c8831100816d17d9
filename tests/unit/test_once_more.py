"""What failed beside others is run once more by itself: few, named, and never forgiven where it fails again."""

import json

import pytest

from tests import once_more

ALWAYS, NEVER = "test_it.py::test_fails", "test_it.py::test_passes"


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """As pytest notes what failed in its last run."""
    (tmp_path / "test_it.py").write_text("def test_passes():\n    pass\n\n\ndef test_fails():\n    assert False\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def note(*names):
        once_more.FAILED.parent.mkdir(parents=True)
        once_more.FAILED.write_text(json.dumps(dict.fromkeys(names, True)))

    return note


def test_what_passes_alone_is_named_as_unsteady(failed, capsys):
    failed(NEVER)
    assert once_more.main() == 0
    assert capsys.readouterr().out.split() == [
        "UNSTEADY,",
        "failed",
        "beside",
        "others",
        "and",
        "passed",
        "alone:",
        NEVER,
    ]


def test_what_fails_alone_too_has_failed(failed, capsys):
    failed(NEVER, ALWAYS)
    assert once_more.main() == 1
    assert "UNSTEADY" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "names", [[], ["test_it.py"], [f"{NEVER}[{n}]" for n in range(once_more.MOST + 1)]], ids=["none", "a file", "many"]
)
def test_nothing_is_run_again_where_that_would_say_nothing(failed, names, monkeypatch):
    monkeypatch.setattr(once_more.subprocess, "run", lambda *_, **__: pytest.fail("it was run"))
    failed(*names)
    assert once_more.main() == 1


def test_a_run_without_notes_has_failed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert once_more.main() == 1
