"""Two days of everything that the marts are made of: hou-1 (an estimate, one lying rack) and wtx-1 (its first day is settled).

Prices are −20 $/MWh from 06 to 10Z of each day (midnight to 4 in Texas) and 40 otherwise. The switch journal is the tests' own.
"""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from hcp_pipelines.orchestration.mart_sources import columns, ensure_sources
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import lake
from tests.support.collected import EMPTY, whole

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
HOUR, QUARTER, MINUTE = timedelta(hours=1), timedelta(minutes=15), timedelta(minutes=1)
HOURS = 36
POINTS = {"hou-1": "HB_HOUSTON", "wtx-1": "HB_WEST"}
S21 = {"hash_rate_th_per_s": 200.0, "efficiency_j_per_th": 17.5}
M60 = {"hash_rate_th_per_s": 186.0, "efficiency_j_per_th": 18.3}
H100 = {"gpu_type": "H100", "gpus_per_node": 8}
GROUPS: dict[tuple[str, str], tuple[int, str, str, str, dict[int, float], dict[str, Any]]] = {
    ("hou-1", "s21"): (100, "Antminer S21", "stock", "ASIC", {0: 0.02, 2: 2.1, 3: 3.5}, S21),
    ("hou-1", "h100"): (10, "H100", "stock", "GPU", {1: 0.2, 5: 0.7}, H100),
    ("wtx-1", "m60"): (50, "Whatsminer M60S", "luxos", "ASIC", {0: 0.02, 3: 3.4}, M60),
}  # devices, model, firmware, type, ladder, specifications
REVENUE_USD_PER_HOUR = {"s21": 40.0, "h100": 25.0, "m60": 18.0}
LYING = range(10, 15)  # slots of hou-1/s21


def price(at: datetime) -> float:
    """Of both points, $/MWh."""
    return -20.0 if 6 <= at.hour < 10 else 40.0


def fill(settings: Settings) -> None:
    """Write all of it to the lake, in the place of what is there."""
    ensure_sources(settings)
    with lake.attach(settings) as connection:
        for name, rows in tables().items():
            frame = _frame(name, rows)
            lake.write(connection, name, frame, uuid.uuid4().hex, mode="replace", settings=settings)


def add(settings: Settings, more: dict[str, list[dict[str, Any]]]) -> None:
    """Append rows, by table."""
    with lake.attach(settings) as connection:
        for name, rows in more.items():
            lake.write(connection, name, _frame(name, rows), uuid.uuid4().hex, settings=settings)


def tables() -> dict[str, list[dict[str, Any]]]:
    """Rows by table."""
    return {
        "raw.facilities": list(_facilities()),
        "raw.device_groups": list(_groups()),
        "raw.price_ticks": list(_ticks()),
        "raw.profitability_scores": list(_scores()),
        "raw.ercot__da_spp": [_day_ahead(n, "HB_WEST") for n in range(24)],
        "raw.ercot__da_capacity": [
            {"start_at": FIRST + n * HOUR, "product": "ECRS", "price_usd_per_mw_h": 7.5, "source": "ercot"} for n in range(24)
        ],
        "raw.hcp__grid_obligations": list(_obligations()),
        "raw.pool__credits": list(_credits()),
        "raw.pool__statements": list(_statements()),
        "core.bitcoin__network": list(_network()),
        "core.power__settled_prices": list(_settled_prices()),
        "core.power__forecast_scores": list(_forecast_scores()),
        "core.hcp__settlement": list(_lines()),
        "core.hcp__settled_days": [settled_day(FIRST)],
        "core.hcp__switch_value": list(_switch_values()),
        "core.hcp__regret": [_regret(facility, n) for facility in POINTS for n in range(2)],
        "raw.workload_events": list(_workload_events()),
        "raw.work_stops": list(_stops()),
        "raw.routing_decisions": list(_decisions()),
        "raw.billing_terms": list(_billing_terms()),
        "raw.gateway_switches": list(_gateway_switches()),
        "core.hcp__billing": list(_billing()),
        "core.hcp__billed_days": [
            {"day_at": FIRST, "until_at": FIRST + 24 * HOUR, "lines": 3, "unknown": 1, "gpu_s": 21600.0, "usd": 8,
             "run_id": "r", "billed_at": FIRST + 25 * HOUR}
        ],
        "core.telemetry_group_1min": list(_group_minutes()),
        "core.telemetry_1h": list(_device_hours()),
    }  # fmt: skip


def _workload_events() -> Iterator[dict[str, Any]]:
    """w1: pre-empted, lost by a node, done in time. w2: fails. w3 waits. x1: real time, done too late.

    Minutes from noon, state, waits, retries left.
    """
    lives = {
        "w1": [(0, "queued", True, 3), (10, "scheduled", False, 3), (11, "running", False, 3), (71, "paused", True, 3),
               (80, "scheduled", False, 3), (81, "running", False, 3), (111, "paused", True, 2),
               (120, "running", False, 2), (135, "paused", False, 2), (140, "running", False, 2), (155, "completed", False, 2)],
        "w2": [(0, "queued", True, 0), (30, "scheduled", False, 0), (31, "running", False, 0), (61, "failed", False, 0)],
        "w3": [(60, "queued", True, 3)],
        "w4": [(160, "queued", True, 3), (165, "cancelled", False, 3)],
        "x1": [(0, "queued", True, 3), (100, "running", False, 3), (162, "completed", False, 3)],
    }  # fmt: skip
    number = 0
    for name, steps in lives.items():
        for before, (minute, status, is_waiting, retries) in zip(
            [None, *(step[1] for step in steps)], steps, strict=False
        ):
            number += 1
            at = FIRST + 12 * HOUR + minute * MINUTE
            yield {
                "id": number, "workload_id": name, "customer_id": "c3" if name == "x1" else "c1",
                "old_status": before, "new_status": status,
                "is_waiting": is_waiting, "lease_epoch": 1, "reason": "", "actor": "", "occurred_at": at, "recorded_at": at,
                "type": "ai_inference_realtime" if name == "x1" else "model_training",
                "tier": "enterprise" if name == "x1" else "pro", "priority": 4, "gpu_type": "H100", "gpu_count": 2,
                "estimated_duration_s": 7200.0, "deadline_at": None if name == "w4" else FIRST + 14 * HOUR + 40 * MINUTE,
                "facility_id": None if status == "queued" else "hou-1", "usd_per_gpu_hour": 2.0, "retries_left": retries,
                "used_gpu_s": 0.0,
            }  # fmt: skip


def _stops() -> Iterator[dict[str, Any]]:
    """Of w1: an hour on two GPUs is kept; of the quarter after it five minutes are, which its checkpoint held.

    Of a stop of long ago it was assumed that it was kept.
    """
    for number, (minute, outcome, progress_s, saved_s) in enumerate(
        [(71, "kept", 3600.0, 0.0), (111, "untold", 4500.0, 3900.0), (70, "assumed", 900.0, 0.0)], 1
    ):
        at = FIRST + 12 * HOUR + minute * MINUTE
        yield {
            "id": number, "workload_id": "w1", "lease_epoch": number, "facility_id": "hou-1", "first_slot": 0, "slots": b"",
            "gpu_count": 2, "progress_s": progress_s, "saved_s": saved_s, "began_s": 0.0, "running_since": at, "stopped_at": at,
            "outcome": outcome, "problem": "", "lost_gpu_s": 0.0 if outcome != "untold" else 2 * (progress_s - saved_s),
            "recorded_at": at,
        }  # fmt: skip


def _decisions() -> Iterator[dict[str, Any]]:
    """Of w2: no place, in words alone; no place, with a cloud; then a place. Of w3: none, and no cloud would do."""
    told = (
        ("w2", 0, "overflow", None),
        ("w2", 10, "overflow", 10.0),
        ("w2", 30, "placed", None),
        ("w3", 60, "none", None),
    )
    for number, (name, minute, outcome, usd) in enumerate(told, 1):
        at = FIRST + 12 * HOUR + minute * MINUTE
        yield {
            "id": number, "workload_id": name, "lease_epoch": 1, "outcome": outcome, "devices": 2, "reason": "test",
            "explanation": "[]", "decided_at": at, "recorded_at": at, "cost_usd_per_hour": 5.0 if outcome == "overflow" else None,
            "cloud_provider": usd and "market", "cloud_region": usd and "", "cloud_usd": usd,
            "cloud_done_at": usd and at + 2 * HOUR,
        }  # fmt: skip


def _billing_terms() -> Iterator[dict[str, Any]]:
    """Of the first day's beginning 0.25 of a missed deadline's price holds for enterprise, put right once; at noon another."""
    held = ((FIRST - 9000 * HOUR, 0.5), (FIRST - HOUR, 0.75), (FIRST - HOUR, 0.25), (FIRST + 12 * HOUR, 1.0))
    for number, (since, fraction) in enumerate(held, 1):
        yield {
            "id": number, "valid_from": since, "noted_at": since, "credit_fractions": json.dumps({"enterprise": fraction}),
            "reason": "test", "recorded_at": since,
        }  # fmt: skip


def _gateway_switches() -> Iterator[dict[str, Any]]:
    """Of hou-1's GPUs, from batches to training: one that comes off, one that is rolled back; the first is told twice."""
    for seq, number, outcome, control_ms in (
        (7, 0, "switched", 40.0),
        (7, 0, "switched", 40.0),
        (9, 1, "rolled_back", 60.0),
    ):
        yield {
            "facility_id": "hou-1", "seq": seq, "command_id": f"c{number}", "assignment": 0, "node": "10.1.0.9", "devices": 4,
            "from_state": 5, "to_state": 6, "workload_id": "w1", "outcome": outcome, "is_success": outcome == "switched",
            "control_ms": control_ms, "control_pause_ms": control_ms / 4, "device_pause_ms": 900.0,
            "device_start_ms": 9000.0 if outcome == "switched" else None, "problem": "", "simulated_at": FIRST + number * HOUR,
            "stored_at": FIRST,
        }  # fmt: skip


def _billing() -> Iterator[dict[str, Any]]:
    """An hour of two GPUs that is billed, one that is lost, one without a price; a day later one of another customer."""
    told = (
        ("c1", "w1", "billed", 12, 4.5, 0.5),
        ("c1", "w1", "lost", 13, 0, 0.5),
        ("c1", "w2", "billed", 14, None, None),
    )
    others = (("c2", "w9", "billed", 30, 3.5, 0.5), ("c3", "x1", "billed", 13, 3.25, 0.25))
    for customer, work, treatment, hour, usd, energy_usd in (*told, *others):
        at = FIRST + hour * HOUR
        yield {
            "start_at": at, "operating_day": (at - 6 * HOUR).date(), "customer_id": customer, "workload_id": work, "run": 1,
            "treatment": treatment, "facility_id": "hou-1", "group_id": "h100", "type": "model_training", "gpu_s": 7200.0,
            "rate_usd_per_gpu_hour": 2.0, "rate_basis": "agreed", "gpu_usd": 4 if customer == "c1" else 3, "device_mwh": 0.008,
            "energy_mwh": 0.01, "energy_basis": "metered" if treatment == "billed" else "model", "price_usd_per_mwh": 40.0,
            "adders_usd_per_mwh": 10.0, "energy_usd": energy_usd, "usd": usd,
        }  # fmt: skip


def _frame(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    made = columns()
    if name in made:
        schema = made[name]
        return pl.DataFrame([{key: row.get(key) for key in schema} for row in rows], schema=schema)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return whole(name, frame) if name in EMPTY else frame


def _facilities() -> Iterator[dict[str, Any]]:
    for facility, point in POINTS.items():
        yield {
            "id": facility, "name": facility.upper(), "location": json.dumps({"latitude": 30.0}), "capacity_mw": 10.0,
            "pue": 1.1 if facility == "hou-1" else 1.0, "status": "active", "settlement_point": point, "control_mode": "auto",
            "dispatch_regime": "self", "document_version": 1, "updated_at": FIRST,
        }  # fmt: skip


def _groups() -> Iterator[dict[str, Any]]:
    for (facility, group), (devices, model, firmware, kind, ladder, told) in GROUPS.items():
        yield {
            "facility_id": facility, "generation": 1, "group_id": group, "feeder_id": "f1", "type": kind, "model": model,
            "firmware": firmware, "cooling_class": "air", "first_slot": 0, "devices": devices, "specifications": json.dumps(told),
            "ladder": json.dumps([{"state": s, "power_kw": kw, "settle_s": 60} for s, kw in ladder.items()]),
        }  # fmt: skip


def _ticks() -> Iterator[dict[str, Any]]:
    number = 0
    for n in range(4 * HOURS):
        at = FIRST + n * QUARTER
        for point in POINTS.values():
            number += 1
            yield {
                "id": number, "stream": "power.rt_spp", "series": point, "timestamp": at, "price_type": "electricity",
                "value": price(at), "unit": "usd_per_mwh", "source": "ercot", "quality": "good", "revision": 0,
                "received_at": at + QUARTER, "created_at": at,
            }  # fmt: skip
    for revision, value in ((0, 500.0), (1, 40.0)):  # the last interval of Houston was posted anew
        at = FIRST + (4 * HOURS - 1) * QUARTER
        yield {
            "id": number + 1 + revision, "stream": "power.rt_spp", "series": "HB_HOUSTON", "timestamp": at, "value": value,
            "quality": "good", "revision": revision + 1, "received_at": at + HOUR, "created_at": at,
        }  # fmt: skip


def scores_at(number: int, at: datetime) -> Iterator[dict[str, Any]]:
    """The scores of a tick; a group's cost is of its full power."""
    for n, ((facility, group), (devices, _, _, kind, ladder, _)) in enumerate(GROUPS.items()):
        cost = devices * max(ladder.values()) / 1000 * price(at)
        revenue = REVENUE_USD_PER_HOUR[group]
        yield {
            "id": 10 * number + n, "timestamp": at, "tick_id": number, "resource_id": f"{facility}/{group}",
            "workload_type": "bitcoin_mining" if kind == "ASIC" else "ai_inference_batch", "score": 50.0,
            "expected_revenue": revenue, "estimated_cost": cost, "net_profit": revenue - cost, "usd_per_mwh": 10.0,
            "confidence": 1.0, "recommendation": "hold", "created_at": at,
        }  # fmt: skip


def _scores() -> Iterator[dict[str, Any]]:
    for n in range(4 * HOURS):
        yield from scores_at(n + 1, FIRST + n * QUARTER)


def _day_ahead(n: int, point: str) -> dict[str, Any]:
    at = FIRST + n * HOUR
    return {"start_at": at, "settlement_point": point, "price_usd_per_mwh": price(at) + 5.0, "source": "ercot"}


def _settled_prices() -> Iterator[dict[str, Any]]:
    for n in range(96):
        at = FIRST + n * QUARTER
        local = (at - 6 * HOUR).date()
        yield {
            "start_at": at, "settlement_point": "HB_WEST", "price_usd_per_mwh": price(at), "origin": "history",
            "operating_day": local,
        }  # fmt: skip


def _obligations() -> Iterator[dict[str, Any]]:
    for number, (status, delivered) in enumerate((("settled", 1.02), ("failed", 0.6), ("armed", None))):
        at = FIRST + (18 + number) * HOUR
        yield {
            "start_at": at, "obligation_id": number + 1, "facility_id": "wtx-1", "programme": "ecrs", "status": status, "mw": 0.1,
            "tranche": "all", "end_at": at + HOUR, "delivered_fraction": delivered, "reason": "", "source": "hcp",
        }  # fmt: skip


def settlement_line(at: datetime, kind: str, usd: float, **more: Any) -> dict[str, Any]:
    """A line of wtx-1."""
    row = {
        "start_at": at, "operating_day": (at - 6 * HOUR).date(), "facility_id": "wtx-1", "kind": kind, "group_id": "",
        "detail": "", "quantity": 1.0, "unit": "", "price_usd": usd, "usd": usd, "basis": "",
    }  # fmt: skip
    return row | more


def _lines() -> Iterator[dict[str, Any]]:
    mwh = 50 * 3.4 / 1000 / 4
    for n in range(96):
        at = FIRST + n * QUARTER
        yield settlement_line(
            at, "energy", -mwh * price(at), quantity=mwh, unit="MWh", price_usd=-price(at), basis="metered"
        )
        yield settlement_line(at, "mining", 4.5, group_id="m60", detail="mining_full")
        if at.hour in (18, 19):
            yield settlement_line(at, "reserves", 0.2, detail="ecrs")
    yield settlement_line(FIRST + 19 * HOUR, "penalties", -12.0, detail="ecrs")


def settled_day(day: datetime) -> dict[str, Any]:
    """That wtx-1's day was settled, two hours after its end."""
    return {
        "day_at": day, "facility_id": "wtx-1", "until_at": day + 24 * HOUR, "lines": 201, "unknown": 0, "net_usd": 400,
        "stayed_usd": 390, "metered_fraction": 1.0, "unnamed_devices": 0, "run_id": "r", "settled_at": day + 26 * HOUR,
    }  # fmt: skip


def _switch_values() -> Iterator[dict[str, Any]]:
    for n, (expected, realised) in enumerate(((4.0, 3.0), (2.0, -1.0))):
        yield {
            "command_id": f"c{n}", "assignment": 0, "switched_at": FIRST + n * HOUR, "device_hours": 20.0, "devices": 10,
            "until_next_usd": realised, "realised_usd": realised, "facility_id": "wtx-1", "group_id": "m60", "from_state": 3,
            "to_state": 0, "reason": "economics", "decision_price_usd_per_mwh": 210.0, "usd_per_hour": 2.0,
            "expected_usd": expected,
        }  # fmt: skip


def _regret(facility: str, n: int) -> dict[str, Any]:
    regret = 20.0 + 5 * n
    return {
        "day_at": FIRST + n * 24 * HOUR, "facility_id": facility, "mw": 0.17, "hours": 24.0, "oracle_usd": 420.0,
        "realised_usd": 420.0 - regret, "break_even_usd": 390.0, "regret_usd": regret, "regret_usd_per_mw_day": regret / 0.17,
        "gap_closed": 1 - regret / 30,
    }  # fmt: skip


def _forecast_scores() -> Iterator[dict[str, Any]]:
    for horizon, mae in (("1", 4.0), ("24", 9.0), ("all", 7.0)):
        yield {
            "day_start_at": FIRST, "settlement_point": "HB_WEST", "method": "trees", "horizon": horizon, "forecasts": 24,
            "mae_usd_per_mwh": mae, "pinball_usd_per_mwh": mae / 3, "coverage_80": 0.81, "coverage_90": 0.9,
        }  # fmt: skip


def minute_row(at: datetime, facility: str, group: str, fraction: float = 0.9, samples: int = 60) -> dict[str, Any]:
    """A group's minute at a fraction of its full power."""
    devices, _, _, _, ladder, told = GROUPS[facility, group]
    hashrate = devices * told["hash_rate_th_per_s"] * fraction if "hash_rate_th_per_s" in told else None
    return {
        "minute_at": at, "facility_id": facility, "group_id": group, "generation": 1, "devices": devices,
        "samples": samples * devices, "power_kw": devices * max(ladder.values()) * fraction, "devices_with_power": devices,
        "hashrate_th_per_s": hashrate, "temperature_celsius_avg": 60.0, "temperature_celsius_max": 71.0,
    }  # fmt: skip


def _group_minutes() -> Iterator[dict[str, Any]]:
    for n in range(0, 60 * HOURS, 10):
        for facility, group in GROUPS:
            yield minute_row(FIRST + n * MINUTE, facility, group)


def _device_hours() -> Iterator[dict[str, Any]]:
    for n in range(HOURS):
        for slot in range(20):
            power = 3.4 + 0.01 * (slot % 3)
            told = power * 1000 / 17.5 * (1.4 if slot in LYING else 1.0)
            yield {
                "hour_at": FIRST + n * HOUR, "facility_id": "hou-1", "group_id": "s21", "generation": 1, "slot": slot,
                "samples": 720, **_metric("power_kw", power), **_metric("hashrate_th_per_s", told),
                **_metric("temperature_celsius", 60.0 + slot),
            }  # fmt: skip


def _credits() -> Iterator[dict[str, Any]]:
    """A day of hou-1/s21 at the pool: what their power makes, less stale and rejected shares; slot 19 has no worker."""
    for slot in range(19):
        true = (3.4 + 0.01 * (slot % 3)) * 1000 / 17.5
        yield {
            "start_at": FIRST, "worker": f"hcp.hou-1.{slot}", "facility_id": "hou-1", "slot": slot,
            "hashrate_th_per_s": 0.996 * true, "valid_shares": 30_000, "stale_shares": 60, "rejected_shares": 60,
            "source": "pool",
        }  # fmt: skip
    yield {"start_at": FIRST, "worker": "hcp.rig", "hashrate_th_per_s": 0.001, "source": "pool"}


def _statements() -> Iterator[dict[str, Any]]:
    """The pool's word on two days: the first is paid as credited, less its fee; of the second nobody's credits are there."""
    for n, earned_btc in enumerate((0.98 * 3e-6, 2e-6)):
        day = FIRST + 24 * n * HOUR
        luck = {f"luck_of_{blocks}_blocks": 1.1 for blocks in (10, 50)}
        yield {
            "start_at": day, "earned_btc": earned_btc, "fee_fraction": 0.02, **luck, "told_at": day + 25 * HOUR, "source": "pool",
        }  # fmt: skip


def _network() -> Iterator[dict[str, Any]]:
    """A day of 144 blocks of 3.125 BTC, at a difficulty at which the credits of hou-1/s21 earn 3 µBTC before the fee."""
    hashes = sum(row["hashrate_th_per_s"] for row in _credits()) * 86_400 * 1e12
    yield {
        "start_at": FIRST, "blocks": 144, "last_height": 877_000, "difficulty": hashes / 2**32 * (3.125 + 0.05) / 3e-6,
        "fees_btc_per_block": 0.05, "issuance_btc": 450.0, "hashrate_th_per_s": 7e8, "price_usd": 100_000.0, "is_over": True,
    }  # fmt: skip


def _metric(name: str, value: float) -> dict[str, Any]:
    return {f"{name}_avg": value, f"{name}_max": value, f"{name}_min": value, f"{name}_count": 720}
