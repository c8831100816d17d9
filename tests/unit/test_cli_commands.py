"""Where the command's parts are: each in the module that is said to have it, and an order loads no other."""

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from hcp_pipelines import cli as package
from hcp_pipelines.cli.common import Finite, instant
from hcp_pipelines.cli.main import COMMANDS
from tests.regenerate_docs import commands

LOADED = """
import sys
from hcp_pipelines.cli.main import cli
cli(["curtail", "--help"], standalone_mode=False)
print(*sorted(name for name in sys.modules if name.startswith("hcp_pipelines.cli.")), sep=",")
"""


@pytest.mark.parametrize("module", COMMANDS)
def test_a_module_registers_the_commands_that_it_is_said_to_have(module):
    group = click.Group()
    importlib.import_module(f"hcp_pipelines.cli.{module}").register(group)
    assert set(group.commands) == set(COMMANDS[module])


def test_no_module_with_commands_of_its_own_is_left_out():
    files = Path(package.__file__).parent.glob("*.py")
    assert {file.stem for file in files if "\ndef register(group" in file.read_text()} == set(COMMANDS)


def test_an_order_loads_its_own_module_and_what_that_needs():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=120, check=True)
    loaded = {name.removeprefix("hcp_pipelines.cli.") for name in done.stdout.splitlines()[-1].split(",")}
    assert loaded == {"main", "orders", "acting", "common", "direct"}


def test_every_number_with_a_fraction_is_finite():
    """Nan is in every range of click's own type."""
    numbers = {
        f"{' '.join(path)} {parameter.name}": parameter.type
        for path, command in commands()
        for parameter in command.params
        if isinstance(parameter.type, click.types.FloatParamType)
    }
    assert numbers
    assert [name for name, kind in numbers.items() if not isinstance(kind, Finite)] == []


@pytest.mark.parametrize("text", ["nan", "-nan", "inf", "1e400"])
def test_what_is_not_finite_is_no_number_of_a_range(text):
    with pytest.raises(click.BadParameter, match="not a finite number"):
        Finite(min=0).convert(text, None, None)


@pytest.mark.parametrize("value", ["9999-12-31T23:59:59-12:00", "0001-01-01", "2500-01-01"])
def test_an_instant_that_no_database_gives_back_is_refused(value):
    with pytest.raises(click.BadParameter, match="between the years 2000 and 2200"):
        instant(None, None, value)


def test_an_instant_is_in_utc():
    assert instant(None, None, "2025-03-01T12:00+05:00").isoformat() == "2025-03-01T07:00:00+00:00"
