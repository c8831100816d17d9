"""Tables for people at the width of their terminal: words stay whole, and what doesn't fit becomes a record a row."""

import pytest

from hcp_pipelines.cli.common import print_table

COLUMNS = ("facility", "settlement point", "control mode", "simulated from")
ROWS = [("hou-1", "HB_HOUSTON", "auto", "k = 0: 127.16.0.1"), ("nor-1", "HB_NORTH", None, "[red]no[/red] k")]


@pytest.fixture
def printed(monkeypatch, capsys):
    def at(width):
        monkeypatch.setenv("COLUMNS", str(width)) if width else monkeypatch.delenv("COLUMNS", raising=False)
        print_table("Facilities", COLUMNS, ROWS)
        return capsys.readouterr().out

    return at


@pytest.mark.parametrize("width", [52, 45])
def test_words_stay_whole_with_lines_between_the_columns_or_without(printed, width):
    out = printed(width)
    assert ("┃" in out) == (width == 52)
    assert max(map(len, out.splitlines())) <= width
    assert {"HB_HOUSTON", "settlement", "127.16.0.1", "[red]no[/red]"} <= set(
        out.replace("│", " ").replace("┃", " ").split()
    )


def test_what_does_not_fit_is_a_record_a_row(printed):
    lines = [line.split() for line in printed(30).splitlines()]
    assert lines[:2] == [["Facilities"], ["row", "1"]]
    assert ["settlement", "point", "HB_HOUSTON"] in lines
    assert ["control", "mode"] in lines


def test_into_a_pipe_it_is_as_wide_as_it_needs_to_be(printed):
    assert "│ hou-1    │ HB_HOUSTON       │ auto         │ k = 0: 127.16.0.1 │" in printed(None)
