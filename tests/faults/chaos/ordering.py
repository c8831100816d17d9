"""Operators and the grid meanwhile: orders by the functions behind the commands. Refusals and lost connections are part of it."""

from collections import Counter
from datetime import timedelta

import psycopg

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import HcpError, StorageError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories, load_inventory
from hcp_pipelines.operators import accounts, building, grid, grid_word, orders
from hcp_pipelines.operators.availability import counted_on
from hcp_pipelines.operators.progress import read_gateway
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire.slots import encode_slots
from tests.faults.chaos.stage import Stage

NAME = "chaos"
LOCKED_DEVICES = 4
Connection = psycopg.Connection[tuple]


class Operator:
    """One operator of the platform, an admin."""

    def __init__(self, stage: Stage) -> None:
        self._settings = stage.settings
        self._clock = SystemClock(Anchor.load(stage.anchor))
        self._who = accounts.Operator(NAME, accounts.OperatorRole.ADMIN)
        self.done: Counter[str] = Counter()
        with connect(self._settings, Role.OPERATOR) as connection:
            if NAME not in {one.name for one in accounts.list_operators(connection)}:
                accounts.add(self._settings, connection, NAME, accounts.OperatorRole.ADMIN, NAME)

    def order(self, what: str, facility_id: str, amount: float) -> None:
        """Do one of `plan.ORDERS`; `amount` in 0 … 1 says how far."""
        try:
            with connect(self._settings, Role.OPERATOR) as connection:
                getattr(self, f"_{what}")(connection, load_inventory(connection, facility_id), amount)
            self.done[what] += 1
        except (psycopg.Error, OSError, StorageError):
            self.done["Postgres away"] += 1
        except HcpError:
            self.done[f"{what} refused"] += 1

    def end_all(self) -> None:
        """Release and unlock everything, recall and give back what was promised."""
        with connect(self._settings, Role.OPERATOR) as connection:
            orders.release(connection, self._who, self._clock.now(), None, "chaos")
            for number, _ in connection.execute("select id, 0 from lockouts where removed_at is null").fetchall():
                orders.unlock(connection, self._who, number)
            for number, _ in _obligations(connection, "deployed"):
                grid_word.recall(connection, self._who, number, self._clock.now(), "the end")

    def _curtail(self, connection: Connection, inventory: FacilityInventory, amount: float) -> None:
        now = self._clock.now()
        order = building.curtailment(
            inventory, inventory.capacity_mw * amount, "chaos", now, now + timedelta(minutes=20), None
        )
        orders.place(connection, self._who, [order])

    def _stop_all(self, connection: Connection, inventory: FacilityInventory, _: float) -> None:
        orders.place(connection, self._who, [building.stop(inventory, "chaos", self._clock.now())])

    def _override(self, connection: Connection, inventory: FacilityInventory, amount: float) -> None:
        now, group = self._clock.now(), inventory.groups[int(amount * len(inventory.groups)) % len(inventory.groups)]
        state = DeviceState(group.ladder[int(amount * 97) % len(group.ladder)].state)
        until = now + timedelta(minutes=15)
        order = building.override(inventory, group.group_id, state, "chaos", now, until)
        orders.place(connection, self._who, [order])

    def _release(self, connection: Connection, _: FacilityInventory, __: float) -> None:
        orders.release(connection, self._who, self._clock.now(), None, "chaos")

    def _lock(self, connection: Connection, inventory: FacilityInventory, amount: float) -> None:
        first = int(amount * (inventory.devices - LOCKED_DEVICES))
        slots = building.slots_of(inventory, [f"{first}-{first + LOCKED_DEVICES - 1}"])
        orders.lock(connection, self._who, inventory.facility_id, "chaos", slots=encode_slots(slots))

    def _unlock(self, connection: Connection, inventory: FacilityInventory, _: float) -> None:
        query = "select id, 0 from lockouts where removed_at is null and facility_id = %s order by id limit 1"
        for number, _zero in connection.execute(query, (inventory.facility_id,)).fetchall():
            orders.unlock(connection, self._who, number)

    def _award(self, connection: Connection, inventory: FacilityInventory, amount: float) -> None:
        now = self._clock.now()
        starts_at, ends_at = now + timedelta(minutes=2), now + timedelta(minutes=32)
        mw = round(inventory.capacity_mw * (0.1 + 0.4 * amount), 4)
        asked = grid.Award("chaos", mw, starts_at, ends_at, 600.0, 600.0, 60.0, 1_000.0)
        state = read_gateway(self._settings, connection, inventory.facility_id)
        share = inventory.capacity_mw / sum(i.capacity_mw for i in load_inventories(connection))
        there_is = counted_on(connection, inventory, state, now, share)
        grid.award(connection, self._who, inventory, asked, there_is, now, "chaos")

    def _deploy(self, connection: Connection, inventory: FacilityInventory, _: float) -> None:
        for number, facility_id in _obligations(connection, "armed"):
            if facility_id == inventory.facility_id:
                grid_word.deploy(connection, self._who, number, self._clock.now(), "chaos")

    def _recall(self, connection: Connection, inventory: FacilityInventory, _: float) -> None:
        for number, facility_id in _obligations(connection, "deployed"):
            if facility_id == inventory.facility_id:
                grid_word.recall(connection, self._who, number, self._clock.now(), "chaos")


def _obligations(connection: Connection, status: str) -> list[tuple[int, str]]:
    query = "select id, facility_id from grid_obligations where status = %s order by id"
    return connection.execute(query, (status,)).fetchall()
