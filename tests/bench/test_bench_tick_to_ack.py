"""The benchmark itself, at a size that says nothing about speed: it runs, and what it counts adds up."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "devices", "facilities", "ticks", "moved_ticks", "p50_ms", "p95_ms", "p99_ms", "breakdown_ms", "plan_ms",
    "source_to_commit_ms", "acked", "lost", "duplicated", "rss_mb", "machine", "commit", "target", "seconds",
}  # fmt: skip


def test_tick_to_ack_runs_and_loses_nothing(tmp_path):
    argv = [sys.executable, "-m", "benchmarks.tick_to_ack", "--json", "--devices=60", "--facilities=2", "--ticks=10"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() >= KEYS
    assert (figures["devices"], figures["facilities"], figures["ticks"]) == (60, 2, 10)
    assert (figures["lost"], figures["duplicated"], figures["unjournalled"], figures["restarts"]) == (0, 0, 0, 0)
    assert (figures["fsync"], figures["synchronous_commit"]) == ("on", "on")
    assert figures["acked"] > 0
    assert figures["moved_ticks"] > 0
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
    assert figures["breakdown_ms"].keys() == {"read", "plan", "journal", "send", "ack"}
