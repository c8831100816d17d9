"""The programme as a policy: what it asks for at every present price, from everything asleep and from everything awake.

Swept over levels of the price, the first interval gives two step curves a ladder step: at least `least` devices are on, at most
`most`, and between them what is stays (OPTIMIZER §3.1, §3.2). A step is the devices in its mode or a higher one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hcp_pipelines.optimizer.programme.programme import SiteProgramme
from hcp_pipelines.optimizer.programme.refusals import healthy_of
from hcp_pipelines.optimizer.programme.spec import Floats, Horizon, SiteSpec

STRIKE_MARGIN_USD_PER_MWH = 1.0


@dataclass(frozen=True)
class Envelopes:
    """Devices by price level and ladder step `[l, p]`, levels rising."""

    levels_usd_per_mwh: Floats
    least: Floats
    most: Floats

    def asked(self, steps: Floats, price_usd_per_mwh: float) -> Floats:
        """[p] steps that are asked for at a price: what is, clipped; between two levels the lower one's word holds."""
        level = max(int(np.searchsorted(self.levels_usd_per_mwh, price_usd_per_mwh, side="right")) - 1, 0)
        return np.clip(steps, self.least[level], self.most[level])

    def anchored(self, price_usd_per_mwh: float, before: Floats, after: Floats) -> "Envelopes":
        """So bent at a price that `before` becomes `after` there, and what stays may stay (OPTIMIZER §3.3)."""
        level = max(int(np.searchsorted(self.levels_usd_per_mwh, price_usd_per_mwh, side="right")) - 1, 0)
        least, most = self.least.copy(), self.most.copy()
        most[level] = np.where(after < before, after, np.maximum(most[level], before))
        least[level] = np.where(after > before, after, np.minimum(least[level], before))
        least[level], most[level] = np.where(after > before, after, least[level]), np.maximum(most[level], after)
        least[level] = np.minimum(least[level], most[level])
        return replace(self, least=least, most=most).falling(level)

    def falling(self, anchor: int = 0) -> "Envelopes":
        """No step rises with the price: running minimum above the anchor, running maximum below it (OPTIMIZER §3.4)."""

        def mended(curve: Floats) -> Floats:
            above = np.minimum.accumulate(curve[anchor:], axis=0)
            below = np.maximum.accumulate(curve[: anchor + 1][::-1], axis=0)[::-1]
            return np.concatenate([below[:-1], above])

        return replace(self, least=mended(self.least), most=mended(self.most))


def levels_around(strikes_usd_per_mwh: Sequence[float]) -> Floats:
    """Levels just below and above each strike: a fixed grid has two to four times the regret."""
    strikes = np.asarray(strikes_usd_per_mwh, dtype=float)
    return np.unique(np.r_[strikes - STRIKE_MARGIN_USD_PER_MWH, strikes + STRIKE_MARGIN_USD_PER_MWH])


def sweep(programme: SiteProgramme, horizon: Horizon, levels_usd_per_mwh: Floats) -> Envelopes:
    """Both sweeps over the first interval's price; the horizon was solved before, from a start without a load of its own.

    Raises:
        SolverError: HiGHS gave up.
    """
    spec, curves = programme.layout.spec, []
    healthy = healthy_of(spec, horizon)[:, 0]
    for awake in (np.zeros(len(spec.groups)), healthy):
        programme.start_from(awake)
        curves.append([steps_of(spec, programme.first_stage(level, horizon)) for level in levels_usd_per_mwh.tolist()])
    least, most = (np.array(curve) for curve in curves)
    return Envelopes(levels_usd_per_mwh, np.minimum(least, most), np.maximum(least, most)).falling()


def steps_of(spec: SiteSpec, devices: Floats) -> Floats:
    """[p] devices in a mode or in a higher one of its group."""
    steps, groups = devices.astype(float).copy(), [g for g, _ in spec.pairs]
    for p in range(len(groups) - 2, -1, -1):
        if groups[p] == groups[p + 1]:
            steps[p] += steps[p + 1]
    return steps


def step_mw(spec: SiteSpec) -> Floats:
    """[p] MW that a device adds with each step of its ladder."""
    out, before = [], -1
    low = 0.0
    for g, mode in spec.pairs:
        low = spec.groups[g].asleep_mw if g != before else low
        out.append(mode.mw - low)
        low, before = mode.mw, g
    return np.array(out)
