"""Memory counts what PostgreSQL's backends take: children that have begun a session of their own."""

import os
import subprocess
import sys

from hcp_pipelines.supervisor.memory import tree_pss_mb

HOLDS_50_MB = "held = bytes(range(250)) * 200_000; print(len(held), flush=True); input()"


def test_a_child_in_a_session_of_its_own_counts_unless_it_is_set_apart():
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDS_50_MB],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdout.readline() == "50000000\n"
        with_child, without = tree_pss_mb(os.getpid()), tree_pss_mb(os.getpid(), apart=[child.pid])
        assert with_child - without > 45
        assert tree_pss_mb(child.pid) > 45
    finally:
        child.communicate("\n", timeout=60)
    assert tree_pss_mb(child.pid) == 0.0
