"""What a mixed facility meets in a window, as decided on and as settled: a row an interval; hourly figures are repeated.

Strategies read `known` courses, `mcpc`, and what the models say; `charge` and settled courses are the ledger's and oracle's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hcp_pipelines.optimizer.ai_work import Ahead, Inference
from hcp_pipelines.optimizer.backtest.case import Case
from hcp_pipelines.optimizer.backtest.mixed.response.calls import Response
from hcp_pipelines.optimizer.backtest.mixed.site import ECO_POWER, MixedSite
from hcp_pipelines.optimizer.backtest.series import Floats, Ints
from hcp_pipelines.optimizer.backtest.simulate import Strikes
from hcp_pipelines.optimizer.programme.spec import Training

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
    # [l, h] as known 1, 2, … hours before it begins, as far ahead as ramps need
    p_peak_soon: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    response: Response | None = None  # a demand response programme: each of its calls may be known from when it is told

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

    @cached_property
    def ahead(self) -> Ahead:
        """The window's hours, as AI work is asked about them."""
        return Ahead(self.cases[0].starts_us[:: self.steps], self.local_hour, self.day, self.steps)

    @cached_property
    def inference(self) -> Inference:
        """Demand for inference by class."""
        return self.site.ai.inference(self.ahead)

    @cached_property
    def jobs(self) -> tuple[tuple[Training, ...], ...]:
        """Training jobs by slot."""
        return self.site.ai.jobs(self.ahead)

    @cached_property
    def is_sellable(self) -> Bools:
        """[g, h] whether a group's load may be sold as reserve: what a programme may call is sold to it alone."""
        if self.response is None:
            return np.ones((len(self.cases), len(self.mcpc)), dtype=np.bool_)
        return ~(self.response.is_enrolled[:, None] & self.response.is_available)

    def without(self, *, reserves: bool = False, peaks: bool = False, response: bool = False) -> "World":
        """The same without one source of value: reserves that pay nothing, peaks that charge nothing, or no programme."""
        none = np.zeros_like(self.mcpc)
        changed = replace(self, mcpc=none) if reserves else self
        changed = replace(changed, response=None) if response else changed
        if not peaks:
            return changed
        return replace(
            changed,
            charge=none,
            p_peak=none,
            p_peak_ahead=none,
            p_peak_soon=0.0 * self.p_peak_soon,
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
    training_mw: Floats  # [j, t] by slot

    @property
    def power(self) -> Floats:
        """[g, t] share of the group's full power."""
        return self.full + ECO_POWER * self.eco

    @property
    def on(self) -> Floats:
        """[g, t] share of the group's devices that run."""
        return self.full + self.eco
