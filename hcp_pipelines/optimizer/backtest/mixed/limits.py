"""Limits of a site and of its feeders that not all load fits under: who runs is decided by worth, the marginal group in part.

AI work comes first, then what is sold as reserve, then steps of miners by what a MWh of them earns: eco above the same group's
full-over-eco, as the live evaluation projects blocks in merit order.
"""

import numpy as np

from hcp_pipelines.optimizer.backtest.mixed.site import ECO_HASH, ECO_POWER, MixedSite
from hcp_pipelines.optimizer.backtest.series import Floats

ECO_WORTH = ECO_HASH / ECO_POWER  # of full revenue, per MWh in eco
FULL_OVER_ECO_WORTH = (1 - ECO_HASH) / (1 - ECO_POWER)  # per MWh that full takes more than eco


def binds(site: MixedSite) -> bool:
    """Whether not everything fits at once."""
    miners = sum(group.mw for group in site.groups)
    return site.limit_mw < miners + site.most_ai_mw or any(
        limit < sum(group.mw for group in site.groups if group.feeder == name)
        for name, limit in site.feeder_limits_mw.items()
    )


def fitted(
    site: MixedSite, room_mw: Floats, full: Floats, eco: Floats, sold: Floats, *, has_eco: bool
) -> tuple[Floats, Floats]:
    """([g, t] shares in full, in eco) of what is wanted that fits into the room for miners; what is sold goes first."""
    parts = parts_of(site, full, eco, has_eco=has_eco)
    left, taken, owed = _Room(site, room_mw), np.zeros_like(parts), owed_of(site, parts, sold)
    for g in _by_worth(site):
        for k in range(2):
            taken[k, g] = left.take(g, owed[k, g])
    for _, k, g in by_merit(site, has_eco=has_eco):
        taken[k, g] += left.take(g, parts[k, g] - taken[k, g])
    return shares_of(site, taken, has_eco=has_eco)


def parts_of(site: MixedSite, full: Floats, eco: Floats, *, has_eco: bool) -> Floats:
    """[2, g, t] MW of shares: what runs in eco at least (without eco: all of it), and what full takes more."""
    mw = _mw(site)
    return np.stack([mw * (ECO_POWER * (full + eco) if has_eco else full), mw * (1 - ECO_POWER) * full * has_eco])


def owed_of(site: MixedSite, parts: Floats, sold: Floats) -> Floats:
    """[2, g, t] MW of the parts that is owed to what is sold: of a group's full power, its eco part first."""
    first = np.minimum(parts[0], _mw(site) * sold)
    return np.stack([first, np.minimum(parts[1], _mw(site) * sold - first)])


def shares_of(site: MixedSite, parts: Floats, *, has_eco: bool) -> tuple[Floats, Floats]:
    """([g, t] shares in full, in eco) of parts."""
    mw = _mw(site)
    if not has_eco:
        return parts[0] / mw, np.zeros_like(parts[0])
    on = parts[0] / (ECO_POWER * mw)
    in_full = np.minimum(parts[1] / ((1 - ECO_POWER) * mw), on)
    return in_full, on - in_full


def by_merit(site: MixedSite, *, has_eco: bool) -> list[tuple[float, int, int]]:
    """(−worth of a MWh, part, group) of every part, the best first."""
    return sorted(
        (-_worth(k, has_eco) / group.efficiency_j_per_th, k, g) for g, group in enumerate(site.groups) for k in range(2)
    )


def stack(site: MixedSite, total_mw: Floats, *, has_eco: bool) -> Floats:
    """[…, part] MW of each part by merit, of totals that the best ones make up."""
    mw = [
        site.groups[g].mw * ((ECO_POWER, 1 - ECO_POWER)[k] if has_eco else float(not k))
        for _, k, g in by_merit(site, has_eco=has_eco)
    ]
    better = np.cumsum(mw) - mw
    taken: Floats = np.clip(total_mw[..., None] - better, 0.0, mw)
    return taken


def sellable(site: MixedSite, room_mw: Floats, sold: Floats) -> Floats:
    """[g, h] shares of what is to be sold that fit into the least room of each hour."""
    left, mw, fits = _Room(site, room_mw), _mw(site), np.zeros_like(sold)
    for g in _by_worth(site):
        fits[g] = left.take(g, (mw * sold)[g]) / mw[g]
    return fits


def stacked(site: MixedSite, total_mw: Floats, *, has_eco: bool) -> Floats:
    """[g, t] shares of each group's full power, of totals that the best parts make up."""
    taken, share = stack(site, total_mw, has_eco=has_eco), np.zeros((len(site.groups), len(total_mw)))
    for n, (_, _, g) in enumerate(by_merit(site, has_eco=has_eco)):
        share[g] += taken[:, n] / site.groups[g].mw
    return share


def starting(site: MixedSite) -> Floats:
    """[g] share of each group that is on before the first interval: all of it, or what fits beside all AI work."""
    everything = np.ones((len(site.groups), 1))
    room = np.array([site.limit_mw - site.most_ai_mw])
    full, _ = fitted(site, room, everything, 0 * everything, 0 * everything, has_eco=False)
    share: Floats = full[:, 0]
    return share


class _Room:
    """What is left by interval, of the site and of each feeder."""

    def __init__(self, site: MixedSite, room_mw: Floats) -> None:
        self._site, self._left = site, np.maximum(room_mw, 0.0)
        self._feeders = {name: np.full(len(room_mw), limit) for name, limit in site.feeder_limits_mw.items()}

    def take(self, g: int, wanted_mw: Floats) -> Floats:
        """As much of the wanted MW as fits, taken."""
        feeder = self._feeders.get(self._site.groups[g].feeder)
        got: Floats = np.minimum(wanted_mw, self._left if feeder is None else np.minimum(self._left, feeder))
        self._left -= got
        if feeder is not None:
            feeder -= got
        return got


def _worth(part: int, has_eco: bool) -> float:
    return (ECO_WORTH, FULL_OVER_ECO_WORTH)[part] if has_eco else 1.0


def _by_worth(site: MixedSite) -> list[int]:
    return sorted(range(len(site.groups)), key=lambda g: site.groups[g].efficiency_j_per_th)


def _mw(site: MixedSite) -> Floats:
    return np.array([[group.mw] for group in site.groups])
