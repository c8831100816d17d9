"""What several commands share: settings from the options, instants and durations, tables, JSON."""

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.box import HEAVY_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hcp_pipelines.domain.clock import typed_instant
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings, environment_value

WIDEST = 2000
LONGEST_WORD = 40  # cells; what is longer is broken into lines
DIGITS_MAX = 18  # of an id: those of a bigint

_DURATION = re.compile(r"(?P<number>[0-9]{1,6}(\.[0-9]{1,3})?)(?P<unit>[smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Command = TypeVar("Command", bound=Callable[..., Any])


class Finite(click.FloatRange):
    """A number in a range; neither nan, which is in every range, nor inf."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number.

        Raises:
            BadParameter: it is none, or not finite.
        """
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class PageFile(click.Path):
    """A file to be written: refused before the work where its folder is not there or can't be written."""

    def __init__(self) -> None:
        """As a `Path`, no folder."""
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path.

        Raises:
            BadParameter: nothing can be written there.
        """
        path = super().convert(value, param, ctx)
        assert isinstance(path, Path)
        if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            self.fail(f"{path}: {path.parent} is no folder that can be written: make it, or name another", param, ctx)
        return path


def state_dir_option(command: Command) -> Command:
    """`--state-dir` after the command's name too, where people type it."""
    return click.option(
        "--state-dir", "own_state_dir", type=click.Path(path_type=Path, file_okay=False), help="Default: .hcp"
    )(command)


def settings_of(context: click.Context, own_state_dir: Path | None = None, **overrides: object) -> Settings:
    """The settings of this invocation: environment, then options."""
    state_dir = own_state_dir or (context.obj or {}).get("state_dir")
    return Settings.load(state_dir=state_dir, **overrides)


def instant(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """An option's instant; without an offset it is UTC."""
    if value is None:
        return None
    try:
        return typed_instant(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def duration(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    """An option's duration: 90s, 30m, 2h, 1d."""
    if value is None:
        return None
    found = _DURATION.fullmatch(value)
    if found is None or float(found["number"]) == 0:
        raise click.BadParameter(f"{value!r} is not a duration like 90s, 30m, 2h or 1d")
    return timedelta(seconds=float(found["number"]) * _SECONDS[found["unit"]])


def number_of(text: str, tail: str, like: str, shown_by: str) -> int:
    """The number of an id as somebody has typed it; `tail`: the id without its kind.

    Raises:
        ConfigError: it is none that Postgres could have.
    """
    if not tail.isdecimal() or len(tail) > DIGITS_MAX:
        raise ConfigError(f"{text!r} is no {like}: `{shown_by}` shows those there are")
    return int(tail)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people. Where its words don't fit side by side, rows are shown one below the other, a record each.

    Into a file or a pipe it is as wide as it needs to be, unless COLUMNS says how wide.
    """
    console, cells = Console(), [[plain("" if cell is None else str(cell)) for cell in row] for row in rows]
    if not (console.is_terminal or environment_value("COLUMNS")):
        console.width = WIDEST
    by_column = list(zip(map(plain, columns), *cells, strict=True))
    least = [max(map(_longest_word, each)) for each in by_column]
    whole = [max(cell.cell_len for cell in each) for each in by_column]
    borders, gaps = 3 * len(columns) + 1, 2 * (len(columns) - 1)
    if sum(least) + gaps > console.width:
        _print_records(console, title, columns, cells)
        return
    has_lines = sum(least) + borders <= console.width
    table = Table(
        title=title, title_justify="left", header_style="bold", box=HEAVY_HEAD if has_lines else None, pad_edge=has_lines
    )  # fmt: skip
    room = console.width - (borders if has_lines else gaps)
    for column, width in zip(columns, _widths(least, whole, room), strict=True):
        table.add_column(plain(column), overflow="fold", width=width)
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _widths(least: Sequence[int], whole: Sequence[int], room: int) -> list[int]:
    """What each column gets: enough for its words, and from the left on what is left of the room."""
    found, spare = [], room - sum(least)
    for low, high in zip(least, whole, strict=True):
        more = min(max(high - low, 0), spare)
        found.append(low + more)
        spare -= more
    return found


def _longest_word(text: Text) -> int:
    """How wide a text has to be for its words to stay whole."""
    return min(max(map(cell_len, text.plain.split()), default=0), LONGEST_WORD)


def _print_records(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[Text]]) -> None:
    if title:
        console.print(plain(title, "italic"))
    for number, row in enumerate(rows, start=1):
        record = Table(title=f"row {number}", title_justify="left", title_style="bold", box=None, show_header=False)
        record.add_column(style="dim", no_wrap=True)
        record.add_column(overflow="fold")
        for column, value in zip(columns, row, strict=True):
            record.add_row(plain(column), value)
        console.print(record)


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal for each kind of work: what is done, how many of how many; nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # only long commands need it

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show


def plain(text: str, style: str = "") -> Text:
    r"""Text as it is: brackets are no markup, and what would drive the terminal is shown as an escape.

    >>> plain("[/x] \x1b[2J").plain
    '[/x] \\x1b[2J'
    """
    return Text("".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text), style=style)
