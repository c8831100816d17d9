"""The checked-in wire code is what the .proto generates."""

from tests.regenerate_wire import NAMES, WIRE, generate


def test_the_generated_wire_code_is_fresh(tmp_path):
    generate(tmp_path)
    stale = [name for name in NAMES if (tmp_path / name).read_text() != (WIRE / name).read_text()]
    assert stale == [], "run `python -m tests.regenerate_wire` (or `make docs`)"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
