"""What the grid pays for: reserves, which are sold by load that is *on* and can go, and demand response, paid for going.

Dollars and $/MWh. What was promised, armed and delivered is in `policy.obligations`; here is what it is worth.
"""

from hcp_pipelines.economics.bounds import check

SHORTFALL_USD_PER_MWH = (
    15_000.0  # of promised load that is not there: three times the cap of 5,000 (OPTIMIZER §2, a setting)
)


def reserve_revenue_usd(
    promised_mw: float, sheddable_mw: float, capacity_usd_per_mw_h: float, hours: float = 1.0
) -> float:
    """Dollars of one reserve sold over so many hours: MW · h · MCPC, less what is missing at the shortfall price.

    `sheddable_mw` is interruptible load that is on: what is asleep can't be sold. The same MW-hour is sold once, in one product.
    Source: MCPC as in the data's manifest; the rule of OPTIMIZER §2.

    >>> reserve_revenue_usd(10.0, 12.0, 5.0), reserve_revenue_usd(10.0, 9.0, 5.0)
    (50.0, -14950.0)
    """
    check(mw=promised_mw, capacity_usd_per_mw_h=capacity_usd_per_mw_h, hours=hours)
    check(mw=sheddable_mw)
    missing_mw = max(0.0, promised_mw - sheddable_mw)
    return hours * (promised_mw * capacity_usd_per_mw_h - missing_mw * SHORTFALL_USD_PER_MWH)


def reserve_offer_usd_per_mw_h(margin_usd_per_mwh: float, deployed_fraction: float = 0.0) -> float:
    """The least MCPC, $/MW for an hour, at which a reserve is worth selling, from load with this margin (revenue − price).

    A promise keeps load on that would better sleep (a negative margin is forgone sleep), and a deployment takes load off that
    would better run: max(0, −margin) · (1 − f) + max(0, margin) · f, f the share of the hour that is deployed.

    >>> reserve_offer_usd_per_mw_h(60.0), reserve_offer_usd_per_mw_h(-25.0), reserve_offer_usd_per_mw_h(60.0, 0.1)
    (0.0, 25.0, 6.0)
    """
    check(price_usd_per_mwh=margin_usd_per_mwh, probability=deployed_fraction)
    return max(0.0, -margin_usd_per_mwh) * (1 - deployed_fraction) + max(0.0, margin_usd_per_mwh) * deployed_fraction


def demand_response_revenue_usd(
    baseline_mw: float, metered_mw: float, hours: float, energy_usd_per_mwh: float, most_mw: float = float("inf")
) -> float:
    """Dollars paid for an event: (baseline − metered) · h · rate, at least 0 and for at most the MW agreed.

    Rates and baseline rules are the programme's; none is published in general (DESIGN §6, `grid_obligations`).

    >>> demand_response_revenue_usd(50.0, 12.0, 2.0, 100.0, most_mw=30.0)
    6000.0
    """
    check(mw=baseline_mw, hours=hours, price_usd_per_mwh=energy_usd_per_mwh)
    check(mw=metered_mw)
    return min(max(0.0, baseline_mw - metered_mw), most_mw) * hours * energy_usd_per_mwh


def event_net_usd_per_mw(
    margin_usd_per_mwh: float, hours: float, energy_usd_per_mwh: float, wake_usd_per_mw: float
) -> float:
    """What going down for an event brings, $ per MW: h · (rate − margin) − one wake; worth it above 0.

    Source: OPTIMIZER §2: an event hour costs r − p, 50 to 90 $/MWh, plus a wake.

    >>> event_net_usd_per_mw(70.0, 2.0, 100.0, 34.0)
    26.0
    """
    check(hours=hours, price_usd_per_mwh=energy_usd_per_mwh)
    check(price_usd_per_mwh=margin_usd_per_mwh)
    return hours * (energy_usd_per_mwh - margin_usd_per_mwh) - wake_usd_per_mw
