"""The lock of requirements: hashes yes, addresses no, and one version of each package in both files."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "requirements"
LOCKS = sorted(FOLDER.glob("*.txt"))
PIN = re.compile(r"^([a-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)

of_each_lock = pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)


def requirements(lock: Path) -> list[str]:
    """Logical lines without comments: one requirement each."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip()]


def versions(name: str) -> set[tuple[str, str]]:
    return set(PIN.findall((FOLDER / name).read_text()))


def test_there_is_a_lock_for_each_purpose():
    assert [lock.name for lock in LOCKS] == ["dev.txt", "mlflow-ui.txt", "runtime.txt", "scale.txt", "uv.txt"]


@of_each_lock
def test_no_address_is_named(lock):
    text = lock.read_text()
    assert "://" not in text
    assert "--index-url" not in text
    assert "--extra-index-url" not in text
    assert "--find-links" not in text


@of_each_lock
def test_every_requirement_is_pinned_with_a_hash(lock):
    lines = requirements(lock)
    assert lines
    assert [line for line in lines if not PIN.match(line) or "--hash=sha256:" not in line] == []


def test_a_requirement_without_a_hash_would_be_noticed(tmp_path):
    lock = tmp_path / "x.txt"
    lock.write_text("# made\na==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n    # via b\nb==2\n")
    assert requirements(lock) == ["a==1      --hash=sha256:00      --hash=sha256:01", "b==2"]


def test_runtime_is_part_of_scale_and_that_of_dev():
    assert versions("runtime.txt") <= versions("scale.txt") <= versions("dev.txt")
    assert len(versions("runtime.txt")) > 50


def test_the_pages_of_mlflow_are_of_the_version_that_records():
    recording = dict(versions("runtime.txt"))["mlflow-skinny"]
    assert dict(versions("mlflow-ui.txt"))["mlflow"] == recording, "another one would change its database's schema"


def named(text: str) -> set[str]:
    """Packages that a .in file asks for, in the lock's spelling."""
    found = re.findall(r"^([A-Za-z0-9][\w.-]*)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


def test_the_makefile_installs_nothing_without_hashes():
    lines = (FOLDER.parent / "Makefile").read_text().splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 4
    assert [
        line for line in installs if not ("--require-hashes" in line or line.endswith("--no-build-isolation -e ."))
    ] == []


@pytest.mark.parametrize("name", ["runtime", "scale", "dev", "uv", "mlflow-ui"])
def test_the_lock_holds_what_was_asked_for(name):
    locked = {package for package, _ in versions(f"{name}.txt")}
    assert named((FOLDER / f"{name}.in").read_text()) <= locked
