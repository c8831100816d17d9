"""The examples in docstrings are run."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import hcp_pipelines
import simulators

NEEDS_DAGSTER = ("hcp_pipelines.definitions",)


def modules_with_examples():
    for package in (hcp_pipelines, simulators):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            spec = found.module_finder.find_spec(found.name, None)
            is_ours = not found.name.endswith("__main__") and not found.name.startswith(NEEDS_DAGSTER)
            if is_ours and spec and spec.origin and ">>>" in Path(spec.origin).read_text():
                yield found.name


@pytest.mark.parametrize("name", sorted(modules_with_examples()))
def test_examples_hold(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
