"""One platform for the tests that may share one: chaos first, then the loop, which ends it; the others start their own."""

import pytest

from tests.support.platform import running_platform


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that share come first and together: no other platform runs beside theirs."""
    items.sort(key=lambda item: "shared_platform" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def shared_platform(tmp_path_factory):
    with running_platform(tmp_path_factory.mktemp("hcp") / "state", "--devices", "600") as running:
        running.wait(lambda: running.row("run-server")["pid"], 120, "what is loading is told")
        assert not running.status()["ready"]
        running.wait_ready()
        yield running
