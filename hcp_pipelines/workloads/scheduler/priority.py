"""How much a desired row weighs: 0–100 by the dollars a device that are lost if it is turned down, on a logarithmic scale."""

from math import log10

LEAST_USD, MOST_USD = 0.01, 1_000.0  # a device: below and above, priorities no longer differ
INTERRUPTIBLE_MOST = 89
FULL = 100


def priority_of(usd_per_device: float, *, is_interruptible: bool) -> int:
    """Of work that may be interrupted 0–89, of other work 90–100, by dollars a device.

    >>> [priority_of(usd, is_interruptible=True) for usd in (0.0, 0.125, 2.5, 5_000.0)]
    [0, 20, 43, 89]
    >>> priority_of(0.0, is_interruptible=False), priority_of(5_000.0, is_interruptible=False)
    (90, 100)
    """
    span = log10(MOST_USD / LEAST_USD)
    share = min(max(log10(max(usd_per_device, LEAST_USD) / LEAST_USD) / span, 0.0), 1.0)
    low, high = (0, INTERRUPTIBLE_MOST) if is_interruptible else (INTERRUPTIBLE_MOST + 1, FULL)
    return low + round((high - low) * share)
