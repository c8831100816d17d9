"""What a mixed facility meets in a window, as decided on and as settled: a row an interval; hourly figures are repeated.

Strategies read `known` courses, `mcpc`, and what the models say; `charge` and settled courses are the ledger's and oracle's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hcp_pipelines.optimizer.backtest.case import Case
from hcp_pipelines.optimizer.backtest.mixed.site import ECO_POWER, MixedSite
from hcp_pipelines.optimizer.backtest.series import Floats, Ints
from hcp_pipelines.optimizer.backtest.simulate import Strikes

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """A window. `cases` by group, `strikes` by strategy and group; `forgone` by worth (0.7 r, 1.075 r), group and hour."""

    site: MixedSite
    cases: tuple[Case, ...]
    strikes: Mapping[str, tuple[Strikes, ...]]
    steps: int  # intervals an hour
    mcpc: Floats  # [h] the best product's, 0 where none is recorded
    local_hour: Ints  # [h]
    day: Ints  # [h] local
    p_peak: Floats  # [h] as known when the hour begins
    p_peak_ahead: Floats  # [h] as known the day before
    plain_peak: Bools  # [h] the field's rule, as known the day before
    charge: Floats  # [h] settled: $ of a MW of load in the hour
    forgone: Floats  # [2, g, h] $/MWh, with what a peak may add to the price
    forgone_without_peaks: Floats  # the same where peaks charge nothing

    def __len__(self) -> int:
        """Intervals."""
        return len(self.cases[0])

    @property
    def step_h(self) -> float:
        """Hours of an interval."""
        return 1.0 / self.steps

    @property
    def settled_price(self) -> Floats:
        """$/MWh by interval."""
        return self.cases[0].settled.price_usd_per_mwh

    @property
    def demand_mw(self) -> Floats:
        """[k, t] of inference by class: three steps a local day."""
        level = np.select([(self.local_hour < 7), (self.local_hour < 17)], [2 / 3, 5 / 6], 1.0)
        hourly = np.array([[each.peak_mw] for each in self.site.inference]).reshape(-1, 1) * level
        return np.repeat(hourly, self.steps, axis=1)

    @property
    def whole_days(self) -> list[slice]:
        """Hours of each local day that lies wholly in the window."""
        days, first, counts = np.unique(self.day, return_index=True, return_counts=True)
        ends = first + counts
        keep = [n for n in range(len(days)) if self.local_hour[first[n]] == 0 and self.local_hour[ends[n] - 1] == 23]
        return [slice(int(first[n]), int(ends[n])) for n in keep]

    def without(self, *, reserves: bool = False, peaks: bool = False) -> "World":
        """The same without one source of value: reserves that pay nothing, or peaks that charge nothing."""
        none = np.zeros_like(self.mcpc)
        changed = replace(self, mcpc=none) if reserves else self
        if not peaks:
            return changed
        return replace(
            changed,
            charge=none,
            p_peak=none,
            p_peak_ahead=none,
            plain_peak=none > 0,
            forgone=self.forgone_without_peaks,
        )


@dataclass(frozen=True)
class Actions:
    """What a strategy did: which parts of each group run in full and in eco, what of it is sold; MW of AI work."""

    full: Floats  # [g, t] share of the group's devices
    eco: Floats  # [g, t]
    sold: Floats  # [g, h] share of the group's full power
    inference_mw: Floats  # [k, t]
    training_mw: Floats  # [j, t]

    @property
    def power(self) -> Floats:
        """[g, t] share of the group's full power."""
        return self.full + ECO_POWER * self.eco

    @property
    def on(self) -> Floats:
        """[g, t] share of the group's devices that run."""
        return self.full + self.eco
