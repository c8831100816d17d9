"""The one settlement of a mixed facility: dollars by kind and interval from what was done, whoever did it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hcp_pipelines.economics.programmes import SHORTFALL_USD_PER_MWH
from hcp_pipelines.optimizer.backtest.mixed.limits import starting
from hcp_pipelines.optimizer.backtest.mixed.response.judging import judged
from hcp_pipelines.optimizer.backtest.mixed.site import ECO_HASH
from hcp_pipelines.optimizer.backtest.mixed.world import Actions, World
from hcp_pipelines.optimizer.backtest.series import Floats

KINDS = (
    "mining", "inference", "training", "energy", "switching", "reserves", "reserve_shortfall", "peak_charge",
    "response", "response_penalty",
)  # fmt: skip
DONE_MWH = 1e-6
CRUMB_MW = 1e-6  # a solver's tolerance


@dataclass(frozen=True)
class Ledger:
    """Dollars of a facility by kind and interval, costs below zero; and counts."""

    usd: Mapping[str, Floats]
    load_mw: Floats
    wakes_mw: float
    switches_per_device_day: float  # wakes and sleeps of miners, by MW
    curtailed_mwh: float  # that miners at full power would have drawn
    jobs: int
    deadlines_missed: int
    peak_load_mw: tuple[float, ...]  # mean load in each charged hour
    calls: int = 0  # of a demand response programme
    calls_met: int = 0

    @property
    def net_usd(self) -> Floats:
        """By interval."""
        net: Floats = np.stack([self.usd[kind] for kind in KINDS]).sum(axis=0)
        return net

    @property
    def total_usd(self) -> float:
        """Of the window."""
        return float(self.net_usd.sum())

    def parts(self) -> dict[str, float]:
        """Dollars by kind."""
        return {kind: float(self.usd[kind].sum()) + 0.0 for kind in KINDS}


def settle(world: World, done: Actions) -> Ledger:
    """The ledger of what was done. Everything that fits starts on, and its end state is free."""
    mining_mw, hours = np.array([[g.mw] for g in world.site.groups]), world.step_h
    settled = [case.settled for case in world.cases]
    hashing = done.full + ECO_HASH * done.eco
    changes = np.diff(done.on, axis=1, prepend=starting(world.site)[:, None])
    wakes = np.maximum(changes, 0.0)
    load = (mining_mw * done.power).sum(axis=0) + done.inference_mw.sum(axis=0) + done.training_mw.sum(axis=0)
    sold_mw = np.repeat((mining_mw * done.sold).sum(axis=0), world.steps)
    short_mw = np.maximum(sold_mw - (mining_mw * done.power).sum(axis=0) - CRUMB_MW, 0.0)
    asked = world.inference
    usd = {
        "mining": hours * (mining_mw * hashing * np.stack([s.revenue_usd_per_mwh for s in settled])).sum(axis=0),
        "inference": hours * (asked.usd_per_mwh[:, None] * np.minimum(done.inference_mw, asked.mw)).sum(axis=0),
        "training": hours * (_paid(world) * done.training_mw).sum(axis=0),
        "energy": -hours * load * world.settled_price,
        "switching": -(mining_mw * wakes * np.stack([s.wake_usd for s in settled])).sum(axis=0),
        "reserves": hours * sold_mw * np.repeat(world.mcpc, world.steps),
        "reserve_shortfall": -hours * short_mw * SHORTFALL_USD_PER_MWH,
        "peak_charge": -hours * load * np.repeat(world.charge, world.steps),
    }  # fmt: skip
    usd["response"], usd["response_penalty"], is_met = _response(world, mining_mw * done.power)
    missed, jobs = _missed(world, done)
    hourly = load.reshape(-1, world.steps).mean(axis=1)
    peaks = tuple(float(mw) for mw in hourly[world.charge > 0])
    per_day = float((mining_mw * np.abs(changes)).sum() / mining_mw.sum()) / (len(world) * hours / 24)
    curtailed = hours * float((mining_mw * (1.0 - done.power)).sum())
    return Ledger(
        usd, load, float((mining_mw * wakes).sum()), per_day, curtailed, jobs, missed, peaks, len(is_met), sum(is_met)
    )


def _response(world: World, miners_mw: Floats) -> tuple[Floats, Floats, tuple[bool, ...]]:
    """What a programme pays and charges by interval, and which of its calls were met."""
    response, nothing = world.response, np.zeros(len(world))
    if response is None:
        return nothing, nothing, ()
    found = judged(response, world.cases[0].starts_us, world.step_h, miners_mw[response.is_enrolled].sum(axis=0))
    return found.paid_usd, found.penalty_usd, found.is_met


def _paid(world: World) -> Floats:
    """[j, t] $/MWh of the job that each slot has in an interval; 0 where it has none."""
    paid = np.zeros((len(world.jobs), len(world)))
    for row, jobs in zip(paid, world.jobs, strict=True):
        for job in jobs:
            row[job.release : job.deadline] = job.penalty_usd_per_mwh
    return paid


def _missed(world: World, done: Actions) -> tuple[int, int]:
    """(jobs that were not done by their deadline, jobs)."""
    missed = [
        float(mw[job.release : job.deadline].sum()) * world.step_h < job.work_mwh - DONE_MWH
        for jobs, mw in zip(world.jobs, done.training_mw, strict=True)
        for job in jobs
    ]
    return sum(missed), len(missed)
