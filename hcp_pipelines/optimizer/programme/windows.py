"""A long time in overlapping windows: each is solved whole, its first part kept, and the next begins where that ended.

What lies beyond a window can't matter much to what is kept of it: a wake is earned back within hours, and jobs are bounded in
time. On a month the dollars equal those of one programme over all of it (`hcp bench solve`).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.programme.layout import Layout
from hcp_pipelines.optimizer.programme.numbers import costs_of
from hcp_pipelines.optimizer.programme.plan import Plan, plan_from
from hcp_pipelines.optimizer.programme.programme import SiteProgramme
from hcp_pipelines.optimizer.programme.spec import Floats, Horizon, SiteSpec, Start, Training

WINDOW_H, COMMIT_H = 9 * 24.0, 7 * 24.0


def solve_long(
    spec: SiteSpec,
    horizon: Horizon,
    start: Start,
    window_h: float = WINDOW_H,
    commit_h: float = COMMIT_H,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Plan:
    """The plan of a long horizon; `progress` is told how many intervals of how many are done.

    Raises:
        ConfigError: windows that are no whole hours, or keep more than they see.
        InfeasibleError, SolverError: as `SiteProgramme.solve`.
    """
    if not 1 <= commit_h <= window_h or commit_h % 1:
        raise ConfigError(
            f"windows of {window_h:g} h of which {commit_h:g} h are kept: keep whole hours, at most a window"
        )
    whole = _Whole(spec, horizon, start.ai_mw)
    ends, at = np.cumsum(horizon.hours), 0
    while at < len(horizon):
        done_h = ends[at - 1] if at else 0.0
        end, keep = (int(np.searchsorted(ends, done_h + h - 1e-9)) + 1 for h in (window_h, commit_h))
        end = min(end, len(horizon))
        kept = end - at if end == len(horizon) else keep - at
        start = whole.solve(at, end, kept, start)
        at += kept
        progress(at, len(horizon))
    return whole.plan()


class _Whole:
    """The values of all columns, put together window by window."""

    def __init__(self, spec: SiteSpec, horizon: Horizon, ai_mw: float) -> None:
        self._spec, self._horizon, self._ai_mw = spec, horizon, ai_mw
        self._at = Layout(spec, horizon.hours)
        self._value = np.zeros(self._at.columns)
        self._programme: SiteProgramme | None = None
        self._gap = 0.0
        self._cap_usd = np.zeros(len(horizon))

    def solve(self, begin: int, end: int, kept: int, start: Start) -> Start:
        """Solve [begin, end), keep the first intervals of it; what runs at the end of those."""
        part = replace(self._horizon.cut(begin, end), training=())
        jobs = [(j, job) for j, job in enumerate(self._horizon.training) if job.release < end and job.deadline > begin]
        part = replace(part, training=tuple(self._left_of(j, job, begin, end) for j, job in jobs))
        if self._programme is None or not np.array_equal(self._programme.layout.hours, part.hours):
            self._programme = SiteProgramme(self._spec, part.hours)
        plan = self._programme.solve(part, start)
        self._keep(plan, [j for j, _ in jobs], begin, kept)
        last = kept - 1
        ai_mw = float(plan.inference_mw[:, last].sum() + plan.training_mw[:, last].sum())
        return Start(plan.awake(self._at.group_of_pair, last), ai_mw, float(plan.load_mw[last]))

    def _left_of(self, j: int, job: Training, begin: int, end: int) -> Training:
        """A job's work that has to be done in a window: what is left, less what can still be done behind it."""
        done = float(self._horizon.hours @ self._value[self._at.training[j]])
        behind_mwh = job.most_mw * float(self._horizon.hours[end : job.deadline].sum())
        work = max(job.work_mwh - done - behind_mwh, 0.0)
        return replace(job, work_mwh=work, release=max(job.release - begin, 0), deadline=min(job.deadline, end) - begin)

    def _keep(self, plan: Plan, jobs: list[int], begin: int, kept: int) -> None:
        at, rows, value = self._at, slice(begin, begin + kept), self._value
        for columns, found in (
            (at.devices, plan.devices), (at.wakes, plan.wakes), (at.sleeps, plan.sleeps), (at.inference, plan.inference_mw),
        ):  # fmt: skip
            value[columns[:, rows]] = found[:, :kept]
        pue = self._horizon.pue[rows]
        for column, found in ((at.load, plan.load_mw[:kept] / pue), (at.over, plan.over_mw[:kept] / pue)):
            value[column[rows]] = found
        value[at.short_reserve[rows]] = plan.short_reserve_mw[:kept]
        hours = np.unique(at.hour[rows])
        value[at.reserve[:, hours]] = plan.reserve_mw[:, : len(hours)]
        for n, j in enumerate(jobs):
            value[at.training[j][rows]] = plan.training_mw[n][:kept]
        self._gap = max(self._gap, plan.duality_gap)
        self._cap_usd[rows] = plan.cap_usd_per_mwh[:kept]

    def plan(self) -> Plan:
        """All of it, its dollars counted anew."""
        at, value, horizon = self._at, self._value, self._horizon
        ai = value[at.inference].sum(axis=0) + value[at.training].sum(axis=0)
        value[at.ai_rise] = np.maximum(np.diff(ai, prepend=self._ai_mw), 0.0)
        for j, job in enumerate(horizon.training):
            value[at.short_training[j]] = max(job.work_mwh - float(horizon.hours @ value[at.training[j]]), 0.0)
        cost: Floats = costs_of(at, horizon)
        return plan_from(at, horizon, cost, value, self._gap, self._cap_usd)
