"""The queue behind its API, as customers meet it: 10,000 connections at one instant, and a rate that rises until it is slow."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from benchmarks.common import ROOT, cpu_s, rounded, say
from benchmarks.parts.api_customers import add_customers
from benchmarks.parts.api_process import ApiProcess, OwnPostgres
from benchmarks.parts.scheduling import add_gpus
from hcp_pipelines.domain.workloads import Tier
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

CONNECTIONS, QUICK_CONNECTIONS = 10_000, 2_000
CUSTOMERS, GPUS = 100, 10_000
RATES = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1_000.0)
QUICK_RATES = (100.0, 300.0)
STEP_S, QUICK_STEP_S = 10.0, 4.0
PROMISED_PER_S, PROMISED_MS = 300.0, 50.0
CLIENT_WITHIN_S = 300.0
TIERS = (Tier.ENTERPRISE, Tier.PRO, Tier.FREE)
_STORED = "select count(*) from workloads where id = any(%s)"
_ALL = "select count(*) from workloads"


def measure_connections(own: OwnPostgres, count: int) -> dict[str, Any]:
    """Submissions at one instant; then SIGKILL to the API and to Postgres, and what it has once it is back."""
    keys = _prepared(own.settings, TIERS)
    api = ApiProcess(own.settings)
    host, port = api.start()
    say(f"{count} connections at once")
    try:
        found = _load({"host": host, "port": port, "keys": keys, "at_once": count})
    finally:
        api.kill()
    own.kill_and_restart()
    accepted = found.pop("accepted")
    with connect(own.settings, Role.ADMIN) as database:
        every = _count(database.execute(_ALL).fetchone())
    gone = _gone(own.settings, accepted)
    figures = found | {"accepted": len(accepted), "accepted_and_gone": gone, "in_postgres": every}
    return {f"at_once_{name}": value for name, value in figures.items()}


def measure_open_loop(own: OwnPostgres, rates: Sequence[float], for_s: float) -> dict[str, Any]:
    """Submissions at rising rates, from the instants at which they were to be sent, with reads beside them."""
    keys = _prepared(own.settings, (Tier.ENTERPRISE,))
    api = ApiProcess(own.settings)
    host, port = api.start()
    say(f"{', '.join(f'{rate:g}' for rate in rates)} submissions a second")
    before = _cpu_s(api, own)
    try:
        found = _load(
            {"host": host, "port": port, "keys": keys, "rates": list(rates), "for_s": for_s, "most_ms": PROMISED_MS}
        )
        used_s = {name: after_s - before[name] for name, after_s in _cpu_s(api, own).items()}
    finally:
        api.stop()
    steps = found["steps"]
    answered = sum(step["sent"] - step["unanswered"] for step in steps)
    at_promised: Mapping[str, Any] = next((step for step in steps if step["per_s"] == PROMISED_PER_S), {})
    over = [step["per_s"] for step in steps if not (step["p95_ms"] or PROMISED_MS) <= PROMISED_MS]
    return {
        "open_loop": steps, "open_loop_300_p95_ms": at_promised.get("p95_ms"), "read_p50_ms": at_promised.get("read_p50_ms"),
        "crosses_50_ms_at_per_s": over[0] if over else None,
        "open_loop_accepted_and_gone": _gone(own.settings, found["accepted"]),
        "cpu_ms_per_request": {name: rounded(1e3 * used / max(answered, 1)) for name, used in used_s.items()},
    }  # fmt: skip


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What was handed in over the API and lost; the highest rate whose p95 kept to 50 ms, all answered, and that p95.

    Where no rate kept to it, the lowest one's p95 stands with a rate of 0.
    """
    steps: Sequence[Mapping[str, Any]] = figures.get("open_loop", ())
    lost = [figures[name] for name in ("at_once_accepted_and_gone", "open_loop_accepted_and_gone") if name in figures]
    found = dict[str, Any]()
    if lost:
        handed_in = figures.get("at_once_connections", 0) + sum(step["submitted"] for step in steps)
        found = {"submitted": handed_in, "lost": sum(lost)}
    if steps:
        kept = [step for step in steps if step["p95_ms"] is not None and step["p95_ms"] <= PROMISED_MS]
        kept = [step for step in kept if not step["unanswered"]]
        best = kept[-1] if kept else {**steps[0], "per_s": 0.0}
        found |= {"submit_rate_per_s": best["per_s"], "submit_p95_ms": best["p95_ms"]}
    return found


def _cpu_s(api: ApiProcess, own: OwnPostgres) -> dict[str, float]:
    assert api.process is not None
    return {"api": cpu_s(api.process.pid), "postgres": cpu_s(own.process.pid)}


def _prepared(settings: Settings, tiers: Sequence[Tier]) -> list[str]:
    """A fleet, customers of some tiers in turn whose quotas end nothing, and a key of each."""
    with connect(settings, Role.ADMIN) as database:
        add_gpus(database, GPUS)
        database.execute("update tier_quotas set max_waiting = 1000000, max_gpus = 1000000")
    return list(add_customers(settings, {f"c{n}": tiers[n % len(tiers)] for n in range(CUSTOMERS)}).values())


def _load(wanted: Mapping[str, Any]) -> Any:
    """What the client says, a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.parts.api_load"], cwd=ROOT, input=json.dumps(wanted), text=True, check=True,
        stdout=subprocess.PIPE, timeout=CLIENT_WITHIN_S,
    )  # fmt: skip
    return json.loads(done.stdout)


def _gone(settings: Settings, accepted: Sequence[str]) -> int:
    """How many of those that were answered with yes Postgres does not have."""
    with connect(settings, Role.ADMIN) as database:
        return len(accepted) - _count(database.execute(_STORED, ([UUID(one) for one in accepted],)).fetchone())


def _count(row: tuple[Any, ...] | None) -> int:
    return int(row[0]) if row else 0
