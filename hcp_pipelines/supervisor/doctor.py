"""`hcp doctor`: what is wrong, and how to mend it."""

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.cluster_home import is_here, is_rubbish, strays
from hcp_pipelines.storage.embedded import own_root
from hcp_pipelines.supervisor.lock import owner_pid
from hcp_pipelines.supervisor.status import Status, read_loop, read_status
from hcp_pipelines.supervisor.telemetry import examine_telemetry

FREE_GB_WANTED = 2.0
MEMORY_GB_WANTED = 3.0
OUT_OF_REACH_FRACTION = 0.05  # of a facility's devices: single ones fail every day


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, what was found, what to do if it is not well."""

    check: str
    is_well: bool
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, object]:
        """As JSON prints it."""
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """All findings, the machine first, then the running platform if there is one."""
    findings = list(_machine(settings))
    if owner_pid(settings.at("run", "supervisor.lock")) is None:
        findings.append(Finding("platform", True, "not running", "`make run` or `hcp up` starts it"))
        return findings
    return findings + list(_running(settings))


def examine_disk(settings: Settings) -> Finding:
    """Whether there is room where the state lives."""
    place = next(p for p in (settings.at(), *settings.at().parents) if p.exists())
    free_gb = shutil.disk_usage(place).free / 1e9
    remedy = f"the state wants {FREE_GB_WANTED:.0f} GB: free some, or move it"
    return Finding("disk", free_gb >= FREE_GB_WANTED, f"{free_gb:.1f} GB free", remedy)


def examine_loop(loop: Status, settings: Settings) -> list[Finding]:
    """Prices, policies and switches, as `status.read_loop` found them."""
    return [check(loop, settings) for check in _LOOP_CHECKS]


def examine_devices(facility_id: str, seen: Status) -> Finding:
    """One facility's devices as `status.read_contacts` found them: whether they answer, and with the next step."""
    away = seen["silent"] + seen["dark"]
    is_well = not seen["problem"] and away <= OUT_OF_REACH_FRACTION * seen["devices"]
    found = seen["said"]
    if seen["unidentified"]:
        found += f" (`discovery` in the facility file, or `hcp discover RANGES --facility {facility_id} --apply`)"
    return Finding(f"{facility_id} devices", is_well, found, _remedy_of(seen))


def _remedy_of(seen: Status) -> str:
    if seen["problem"]:
        return "`hcp status`: the row of its gateway, and that one's log"
    if seen["silent"]:
        example = seen["examples"][0]
        return f"power and network there, ports and addresses in the facility file; `hcp discover {example}` says what is there"
    return "a breaker or a relay has opened (docs/modbus.md): nothing is commanded there until it is closed"


def _machine(settings: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), version, "use Python 3.11 or newer")
    yield examine_disk(settings)
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    yield Finding(
        "memory", memory_gb >= MEMORY_GB_WANTED, f"{memory_gb:.1f} GB", f"the demo wants {MEMORY_GB_WANTED:.0f} GB"
    )
    yield _secrets(settings.at("secrets"))
    if settings.database_url is None and os.geteuid() == 0:
        yield examine_clusters(own_root(), settings.at())


def examine_clusters(root: Path, state: Path) -> Finding:
    """PostgreSQL's data of other state directories that are not where they were: kept, since those may come back."""
    others = [(home, was_at) for home, was_at in strays(root) if not (is_here(home, state) or is_rubbish(home, was_at))]
    found = [
        f"{home} is of {was_at}, which is away or has other data now: `rm -r {home}` if you don't want it back"
        for home, was_at in others
    ]
    return Finding("others' Postgres", True, "; ".join(found) or "none without a state directory")


def _secrets(folder: Path) -> Finding:
    if not folder.exists():
        return Finding("secrets", True, "none yet")
    open_ones = [p.name for p in (folder, *folder.iterdir()) if stat.S_IMODE(p.stat().st_mode) & 0o077]
    found = f"readable by others: {', '.join(open_ones)}" if open_ones else "closed"
    return Finding("secrets", not open_ones, found, f"chmod -R go-rwx {folder}")


def _running(settings: Settings) -> Iterator[Finding]:
    status = read_status(settings)
    for process in status["processes"]:
        found = process["reason"] or f"{process['state']}, restarted {process['restarts']} times"
        yield Finding(process["name"], process["healthy"], found.splitlines()[0][:160], f"see {process['log']}")
    loop = read_loop(settings)
    if loop.get("error"):
        yield Finding("postgres", False, loop["error"], "`hcp status` shows whether it comes back; see its log")
        return
    yield from examine_loop(loop, settings)
    yield from (examine_devices(facility_id, seen) for facility_id, seen in status["devices"].items())
    yield Finding("telemetry", *examine_telemetry(settings), "see logs/collector.log and docs/telemetry.md")
    yield _lake(settings)


def _ticks(loop: Status, settings: Settings) -> Finding:
    newest = loop["ticks"].get("power.rt_lmp")
    if newest is None:
        return Finding("power prices", False, "none yet", "see logs/feed.log")
    limit_s = settings.price_staleness_s
    return Finding(
        "power prices",
        newest["age_s"] <= limit_s,
        f"{newest['age_s']:.0f} s old (limit {limit_s:.0f})",
        "see logs/feed.log",
    )


def _policies(loop: Status, settings: Settings) -> Finding:
    age_s = loop["policies"]["age_s"]
    found = "none yet" if age_s is None else f"newest is {age_s:.0f} simulated s old"
    remedy = "see logs/tick-launcher.log and the runs in the Dagster UI"
    return Finding("policies", age_s is not None and age_s < settings.policy_expires_s, found, remedy)


def _switches(loop: Status, _: Settings) -> Finding:
    switches = loop["switches"]
    found = f"{switches['acked']} devices acked, {switches['settled']} settled, {switches['failed']} failed"
    return Finding("switches", switches["failed"] <= 0.05 * max(switches["acked"], 1), found, "see marts.fct_switches")


def _exchanges(loop: Status, _: Settings) -> Finding:
    """Whether an exchange is left out of bitcoin's price for long, or there is none; it is the others' price that is acted on."""
    left_out: dict[str, str] = loop["exchanges_left_out"]
    found = "; ".join(f"{venue}: {why}" for venue, why in sorted(left_out.items()))
    remedy = "bitcoin is the price of the others; nothing to do unless it stays so: see logs/feed.log"
    return Finding("exchanges", not left_out, (found and f"left out of bitcoin's price: {found}") or "agree", remedy)


_MARTS = "select count(*) from information_schema.tables where table_schema = 'marts' and table_name = 'fct_switches'"


def _lake(settings: Settings) -> Finding:
    from hcp_pipelines.storage.query import run_select  # brings DuckDB: not for every process that looks

    try:
        if not run_select(settings, _MARTS).rows[0][0]:
            remedy = "they are made within minutes of the start, see marts_job in the Dagster UI"
            return Finding("lake", False, "the marts are not built yet", remedy)
        result = run_select(settings, "select count(*) from marts.fct_switches")
    except HcpError as error:
        return Finding(
            "lake", False, str(error).splitlines()[0][:160], "see marts_job in the Dagster UI, logs/postgres.log"
        )
    return Finding("lake", True, f"marts.fct_switches has {result.rows[0][0]} rows")


_LOOP_CHECKS: tuple[Callable[[Status, Settings], Finding], ...] = (_ticks, _policies, _switches, _exchanges)
