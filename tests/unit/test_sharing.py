"""The order in which processes take the tests' files."""

from pathlib import Path
from types import SimpleNamespace

from tests.support.sharing import LONGEST, PLATFORM, pytest_collection_modifyitems

TESTS = Path(__file__).resolve().parents[1]


def test_each_file_that_is_to_begin_early_is_there():
    assert set(LONGEST) <= {path.stem for path in TESTS.rglob("test_*.py")}
    assert len(set(LONGEST)) == len(LONGEST)


def test_platforms_begin_then_what_takes_longest_then_the_others_as_they_came():
    named = (
        "tests/unit/test_b.py",
        f"tests/integration/{LONGEST[1]}.py",
        "tests/unit/test_a.py",
        f"{PLATFORM[0]}_loop.py",
    )
    items = [SimpleNamespace(nodeid=f"{name}::test", path=Path(name)) for name in named]
    pytest_collection_modifyitems(items)
    assert [item.nodeid.partition("::")[0] for item in items] == [named[3], named[1], named[0], named[2]]
