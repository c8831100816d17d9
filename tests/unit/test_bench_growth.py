"""What the growth benchmark makes of its looks: rates are of the second half, and a place is counted once in the whole."""

import pytest

from benchmarks.growth import Look, _tree, growth


def test_rates_are_of_the_second_half_and_parts_of_a_database_are_not_added_to_it():
    looks = [
        Look(
            3600.0 * n, {"postgres/hcp": mb * 10**6, "postgres/hcp/policies": 10**6, "logs": 2 * 10**6}, {"runs": rows}
        )
        for n, (mb, rows) in enumerate([(10, 0), (30, 40), (34, 50)])
    ]
    found = growth(looks)
    assert found["mb"]["postgres/hcp"] == {"is": 34.0, "an_hour": 4.0}
    assert found["rows"]["runs"] == {"is": 50, "an_hour": 10.0}
    assert (found["all_mb"], found["all_mb_by_look"]) == (36.0, [12.0, 32.0, 36.0])
    assert found["minutes"] == 120.0


def test_a_folder_is_what_it_takes_on_disk(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "in/b"):
        (tmp_path / name).write_bytes(b"x" * 5000)
    size, files = _tree(tmp_path)
    assert (files, size) == (2, pytest.approx(2 * 8192, abs=8192))
