"""How often what breaks, and for how long: the table of hazards, each row with where its figures come from.

A rate is per unit and day; a duration is lognormal around its median, at most 20 days. A scenario multiplies them or changes rows
(`faults` in its file, by `unit/name`). When which unit breaks is drawn in `fault_schedule`.
"""

from typing import Final, NamedTuple

from simulators import faults as f
from simulators.scenarios import FaultPlan

LONGEST_DAYS: Final = 20
_XID_PER_GPU_DAY: Final = 24 / 50_000  # FACTS §6: 0.474 unexpected interruptions per 1,000 GPU-days of Llama-3 405B
_OURS = "ours: no public figure; to be set from one's own fleet"
_LOG = "fault log of 400 training nodes over 348 days (InfiniteHBD)"


class Hazard(NamedTuple):
    """One row. `unit`: miner, gpu, or a `Unit` of `scenarios`; `xid`: the code a GPU reports with it."""

    name: str
    unit: str
    kind: str
    per_day: float
    median_h: float
    sigma: float
    source: str
    xid: int = 0


# 24 a day at 50,000 GPUs, split over codes. The split is ours, led by the same table: of its 268 GPU rows 55 % were
# faulty GPUs, 34 % memory (HBM3, SRAM), 6 % the GPU system processor. Actions by code: FACTS §6.
_XIDS: Final = (
    (79, 0.25, f.FALLEN_OFF_BUS), (31, 0.15, f.XID), (13, 0.08, f.XID), (63, 0.10, f.XID), (92, 0.03, f.XID),
    (94, 0.10, f.ECC), (48, 0.06, f.ECC), (95, 0.06, f.ECC), (64, 0.02, f.ECC), (74, 0.08, f.NVLINK), (119, 0.07, f.ECC),
)  # fmt: skip

TYPICAL: Final = (
    Hazard("board", "miner", f.BOARD_DROPOUT, 6e-4, 168.0, 0.8, _OURS),
    Hazard("fan", "miner", f.FAN_FAILURE, 2e-4, 72.0, 0.8, _OURS),
    Hazard("stuck", "miner", f.STUCK, 2e-4, 2.0, 1.0, _OURS),
    Hazard("lying", "miner", f.LYING, 2e-5, 72.0, 0.8, _OURS),
    Hazard("false_ack", "miner", f.FALSE_ACK, 5e-4, 4.0, 1.0, _OURS),
    Hazard("hung", "miner", f.HUNG, 1e-3, 1.0, 1.0, _OURS),
    Hazard("unreachable", "miner", f.UNREACHABLE, 2e-3, 0.5, 1.2, _OURS),
    Hazard("wrong_wake", "miner", f.WRONG_WAKE, 3e-4, 12.0, 0.8, _OURS),
    Hazard("no_pool", "miner", f.NO_POOL, 2e-4, 2.0, 1.0, _OURS),
    Hazard("throttled", "gpu", f.THROTTLED, 5e-4, 1.0, 1.0, _OURS),
    *(
        Hazard(f"xid{code}", "gpu", kind, share * _XID_PER_GPU_DAY, 17.0, 2.0, f"24 a day at 50,000; duration: {_LOG}", code)
        for code, share, kind in _XIDS
    ),
    Hazard("lost", "node", f.NODE_LOST, 0.0031, 22.0, 2.0, f"{_LOG}: 426 of 584 faults were not the GPU's"),
    Hazard("trip", "pdu", f.POWER_LOST, 5e-4, 1.0, 0.8, _OURS),
    Hazard("switch", "rack", f.UNREACHABLE, 2e-3, 0.3, 1.0, _OURS),
    Hazard("pump", "cooling_loop", f.COOLING_LOST, 1e-3, 1.5, 0.8, _OURS),
    Hazard("outage", "site", f.POWER_LOST, 5e-4, 0.5, 0.8, _OURS),
)  # fmt: skip


def hazards_of(plan: FaultPlan) -> tuple[Hazard, ...]:
    """The rows in force under a scenario's plan.

    Raises:
        ValueError: the plan changes a row that there is not.
    """
    if plan.profile == "none":
        return ()
    rows = {f"{row.unit}/{row.name}": row for row in TYPICAL}
    for key, change in plan.rates.items():
        if key not in rows:
            message = f"faults.rates: {key} is no hazard; there are {', '.join(sorted(rows))}"
            raise ValueError(message)
        rows[key] = rows[key]._replace(**change.model_dump(exclude_none=True))
    return tuple(row._replace(per_day=row.per_day * plan.factor) for row in rows.values() if row.per_day > 0)
