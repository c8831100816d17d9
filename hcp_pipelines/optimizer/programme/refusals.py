"""What is wrong with a facility or its hours ahead, said before anything is solved: the row, the value, the limit."""

import numpy as np

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.optimizer.programme.spec import Floats, Horizon, InfeasibleError, SiteSpec, Start

_SLACK_MW = 1e-6


def refuse(spec: SiteSpec, horizon: Horizon, start: Start) -> None:
    """Do nothing.

    Raises:
        ConfigError: a number is missing or none, named with its row.
        InfeasibleError: a limit can't be held, named with its interval.
    """
    _refuse_numbers(spec, horizon, start)
    _refuse_limits(spec, horizon)


def _refuse_numbers(spec: SiteSpec, horizon: Horizon, start: Start) -> None:
    needed = sorted({g.index for g in spec.groups} - {"none"} - set(horizon.indices))
    if needed:
        raise ConfigError(
            f"no values of {', '.join(needed)} for the hours ahead; there are: {', '.join(horizon.indices) or 'none'}"
        )
    columns = {
        "price_usd_per_mwh": horizon.price_usd_per_mwh, "hours": horizon.hours, "pue": horizon.pue,
        "adder_usd_per_mwh": horizon.adder_usd_per_mwh, "floor_mw": horizon.floor_mw, **horizon.indices,
    }  # fmt: skip
    columns |= {f"mcpc of {name}": row for name, row in zip(spec.reserves, horizon.mcpc_usd_per_mw_h, strict=False)}
    for name, column in columns.items():
        if len(column) != len(horizon):
            raise ConfigError(f"{name} has {len(column)} values for {len(horizon)} intervals")
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            raise ConfigError(f"{name} of interval {bad[0]} is {column[bad[0]]}: every interval needs a number")
    for name, column in (("hours", horizon.hours), ("pue", horizon.pue)):
        if (column <= 0).any():
            raise ConfigError(f"{name} of interval {int(np.argmax(column <= 0))} is {column.min()}: it is above 0")
    if len(horizon.training) > spec.training_slots:
        raise ConfigError(
            f"{len(horizon.training)} jobs of training at once, the facility has {spec.training_slots} slots for them"
        )
    if len(start.awake) != len(spec.groups):
        raise ConfigError(f"devices awake of {len(start.awake)} groups, the facility has {len(spec.groups)}")


def _refuse_limits(spec: SiteSpec, horizon: Horizon) -> None:
    healthy = healthy_of(spec, horizon)
    asleep = np.array([g.asleep_mw for g in spec.groups]) @ healthy + spec.gpu_idle_fraction * spec.gpu_mw
    _refuse_where(
        asleep * horizon.pue > horizon.cap_mw + _SLACK_MW,
        "the site's limit",
        horizon.cap_mw,
        asleep * horizon.pue,
        "all asleep",
    )
    full = np.array([g.modes[-1].mw if g.is_sheddable else 0.0 for g in spec.groups]) @ healthy
    can = np.minimum(full, np.where(np.isfinite(horizon.cap_mw), horizon.cap_mw / horizon.pue, np.inf))
    _refuse_where(
        horizon.floor_mw > can + _SLACK_MW, "the load that can be on", can, horizon.floor_mw, "sold as reserve"
    )
    for name, cap_mw in spec.feeder_caps_mw.items():
        least = sum(
            (g.asleep_mw * healthy[n] for n, g in enumerate(spec.groups) if g.feeder == name), np.zeros(len(horizon))
        )
        _refuse_where(
            least * horizon.pue > cap_mw + _SLACK_MW,
            f"feeder {name}'s limit",
            np.full(len(horizon), cap_mw),
            least,
            "all asleep",
        )


def _refuse_where(wrong: np.ndarray, limit_name: str, limit_mw: Floats, asked_mw: Floats, what: str) -> None:
    if wrong.any():
        t = int(np.argmax(wrong))
        raise InfeasibleError(
            f"interval {t}: {asked_mw[t]:.2f} MW ({what}) are above {limit_name}, {limit_mw[t]:.2f} MW"
        )


def healthy_of(spec: SiteSpec, horizon: Horizon) -> Floats:
    """[g, t] devices that can run."""
    if horizon.healthy is not None:
        return horizon.healthy
    devices: Floats = np.array([g.devices for g in spec.groups], dtype=float)
    return np.tile(devices[:, None], len(horizon))
