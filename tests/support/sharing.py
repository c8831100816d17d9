"""Which process runs which tests: a file as a whole, and all that start a platform in one, so that no two run side by side.

(The marker that is meant for this, xdist_group, has no effect in the versions of the lock.)
"""

from xdist.scheduler import LoadScopeScheduling

PLATFORM = ("tests/scenarios/test_platform", "tests/scenarios/test_chaos")


class ByFile(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return PLATFORM[0] if nodeid.startswith(PLATFORM) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)
