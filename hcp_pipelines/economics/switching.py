"""What a switch costs: revenue lost while a device comes back, and its wear. Dollars per switch, before any strike.

The ASIC figures are the golden case's (10 minutes of hashing and $0.05 a device); GPUs pay for reloading the model.
"""

from dataclasses import dataclass

ASIC_WAKE_MINUTES = 10.0
ASIC_WEAR_USD = 0.05
GPU_RELOAD_S = 60.0  # vLLM cold reload 38–58 s (FACTS §6)
REFERENCE_HASH_RATE_TH_PER_S = 200.0  # the machine whose wear is $0.05 in the golden case


@dataclass(frozen=True, slots=True)
class WakeCost:
    """Cost of one wake: so many minutes of the revenue of what is woken, plus a fixed amount."""

    minutes: float
    fixed_usd: float

    def at(self, revenue_usd_per_hour: float) -> float:
        """Dollars of one wake at a revenue in $/h."""
        return revenue_usd_per_hour * self.minutes / 60 + self.fixed_usd


def asic_wake_usd_per_mw(revenue_usd_per_mwh: float, efficiency_j_per_th: float) -> float:
    """Dollars to wake one MW of IT load of ASICs: r · 10/60 + 0.05 · 10^6 / (200 · E).

    Source: the golden case of the back-test.

    >>> round(asic_wake_usd_per_mw(119.0, 17.5), 2)
    34.12
    """
    devices_per_mw = 1e6 / (REFERENCE_HASH_RATE_TH_PER_S * efficiency_j_per_th)
    return revenue_usd_per_mwh * ASIC_WAKE_MINUTES / 60 + ASIC_WEAR_USD * devices_per_mw


def asic_wake(hash_rate_th_per_s: float) -> WakeCost:
    """Wake cost of one ASIC, to be applied to its full revenue; wear in proportion to its size.

    >>> asic_wake(200.0).at(0.3)
    0.1
    """
    return WakeCost(ASIC_WAKE_MINUTES, ASIC_WEAR_USD * hash_rate_th_per_s / REFERENCE_HASH_RATE_TH_PER_S)


def gpu_wake() -> WakeCost:
    """Wake cost of one GPU: its revenue during a model reload."""
    return WakeCost(GPU_RELOAD_S / 60, 0.0)
