"""A small facility without a database: its inventory, its owner's site, and the policy that the optimizer makes for it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hcp_pipelines.allocator.market import MarketBook, TickRow
from hcp_pipelines.allocator.site import site_of
from hcp_pipelines.domain.modes import ControlMode, DeviceState, DispatchRegime, ResourceType
from hcp_pipelines.fleet.apply import _inventory_of
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.inventory import FacilityInventory, GroupInventory, LadderState, RampBudget
from hcp_pipelines.fleet.solve_sites import site_inputs
from hcp_pipelines.optimizer.inputs import FacilityInputs
from hcp_pipelines.optimizer.solve import solve_facility

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
FIVE = timedelta(minutes=5)
POINT = "HB_HOUSTON"
MARKET = (
    ("btc.usd", "consensus", 95_000.0),
    ("btc.network", "difficulty", 1.1e14),
    ("btc.network", "fees_btc_per_block", 0.05),
    ("btc.network", "height", 877_000.0),
    ("gpu.spot", "H100", 2.4),
)


def inventory(devices=600, control_mode=ControlMode.AUTO, ramps=(), **changes):
    made = inventory_of(demo_facilities(1, devices)[0])
    return replace(made, control_mode=control_mode, ramps=tuple(ramps), **changes)


def inventory_of(document):
    """What applying a facility file to an empty database makes of it."""
    groups, first = [], 0
    for group in document.groups:
        row = _inventory_of(document, group)
        ladder = tuple(LadderState(DeviceState(s["state"]), s["power_kw"], s["settle_s"]) for s in row["ladder"])
        groups.append(
            GroupInventory(
                group.group_id, group.feeder_id, ResourceType(group.type), group.model, group.firmware,
                group.cooling_class, first, group.devices, ladder, row["specifications"],
            )
        )  # fmt: skip
        first += group.devices
    return FacilityInventory(
        document.facility_id, document.name, 1, 1, document.settlement_point, document.capacity_mw,
        document.pue.value, document.control_mode, DispatchRegime.SELF, 0, "active",
        {f.feeder_id: f.limit_mw for f in document.feeders}, tuple(groups), (),
        {g.group_id: document.fallback_state(g) for g in document.groups}, document, document.staleness,
        frozenset(g.group_id for g in document.groups if g.scheduled),
    )  # fmt: skip


def site(**changes):
    made = inventory(**changes)
    return site_of(made, made.capacity_mw, "unix:/nowhere.sock")


def ramp(scope, mw, scope_id="hou-1", window_s=300.0):
    return RampBudget(scope, scope_id, mw, mw, window_s)


def row(number, value, at=NOON, stream="power.rt_lmp", series=POINT, quality="good", revision=0, origin_ns=0):
    return TickRow(number, stream, series, at, value, quality, revision, origin_ns)


def book(price=30.0, at=NOON):
    """A market in which everything is known; ids 1 to 5, the price is tick 6."""
    filled = MarketBook()
    filled.take(row(n, value, at, stream, series) for n, (stream, series, value) in enumerate(MARKET, start=1))
    filled.take([row(6, price, at)])
    return filled


def policy(facility, market, basis=6, solved_at=NOON, **more):
    sites = site_inputs(facility)
    price = market.decision_price(facility.settlement_point)
    ages = {"power.rt_lmp": 0.0, "btc.usd": 0.0}
    inputs = FacilityInputs(sites, basis, solved_at, price, market.indices, input_age_s=ages)
    return solve_facility(replace(inputs, **more))
