"""What stands over a facility's devices at its gateway: lock-outs, and the direct orders of operators.

Both are durable before they are answered, outlive a restart, and hold whoever asks. A direct order only ever reduces load; every
slot of the facility is then held at what it does, until an operator releases it.
"""

import math
from uuid import UUID

import numpy as np
import structlog

from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.fencing import highest_taken
from hcp_pipelines.domain.modes import ReasonCode, RefusalCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.local import LocalActions, Move
from hcp_pipelines.edge.log import FacilityLog
from hcp_pipelines.edge.plant import Plant
from hcp_pipelines.edge.recovery import Known, is_local, mask_of
from hcp_pipelines.edge.reduction import pick, present_kw
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import encode_slots

TEXT_MAX = 500
_NOTHING_KW = 1e-3


class Standing:
    """Locks and holds of one facility."""

    def __init__(self, devices: Devices, local: LocalActions, log: FacilityLog, known: Known, plant: Plant) -> None:
        self._devices, self._local, self._log, self._plant = devices, local, log, plant
        self._version, self._orders = known.locks_version, known.orders
        self._replies: dict[str, pb.DirectReply] = {}
        self._rng = np.random.default_rng()
        self._log_line = structlog.get_logger("edge").bind(facility_id=devices.shape.facility_id)

    @property
    def orders(self) -> list[pb.DirectOrder]:
        """The direct orders that are remembered, oldest first."""
        return list(self._orders)

    def fill(self, state: pb.FacilityState) -> None:
        """What stands now."""
        bars = self._devices.bars
        state.locked, state.locks_version = _bitmap(bars.locked), self._version
        state.held = _bitmap(bars.held)

    # -- locks --------------------------------------------------------------------------------------------------------

    async def lock(self, locks: pb.SetLocks, refusal: str) -> pb.LocksHeld:
        """Take the locked slots, all that are to be; `refusal` is what the session was found to lack."""
        async with self._devices.turn:
            try:
                refusal, detail = (refusal, "") if refusal else self._check_locks(locks)
                if refusal:
                    metrics.REFUSED.labels(refusal).inc()
                    return pb.LocksHeld(version=self._version, refusal=refusal, detail=detail)
                return await self._lock(locks)
            except StorageError as error:
                metrics.REFUSED.labels(RefusalCode.STORE_FAILED.value).inc()
                return pb.LocksHeld(version=self._version, refusal=RefusalCode.STORE_FAILED.value, detail=str(error))

    def _check_locks(self, locks: pb.SetLocks) -> tuple[str, str]:
        try:
            mask = mask_of(locks.slots, self._devices.shape)
        except ValueError as error:
            return RefusalCode.BAD_MESSAGE.value, str(error)
        if locks.version > (most := highest_taken(self._version)):
            return (
                RefusalCode.BAD_MESSAGE.value,
                f"version {locks.version}: {most} at most, in force is {self._version}",
            )
        is_other = locks.version == self._version and not np.array_equal(mask, self._devices.bars.locked)
        if locks.version < self._version or (is_other and self._version):
            return RefusalCode.REPLAYED.value, f"version {locks.version}, in force is {self._version}"
        return "", ""

    async def _lock(self, locks: pb.SetLocks) -> pb.LocksHeld:
        """Stored before anything else; then what is locked and on goes down."""
        mask, bars, seq = mask_of(locks.slots, self._devices.shape), self._devices.bars, self._log.last_seq
        if locks.version != self._version or not np.array_equal(mask, bars.locked):
            seq = self._log.reserve()
            await self._log.append([(seq, "locks", locks.SerializeToString())])
            self._version, bars.locked = locks.version, mask
        moves = self._local.down(np.flatnonzero(mask).astype(np.uint32))
        if moves:
            await self._local.act("lockout", ReasonCode.LOCKOUT, moves)
        return pb.LocksHeld(version=self._version, seq=seq)

    # -- direct orders ------------------------------------------------------------------------------------------------

    async def direct(self, order: pb.DirectOrder) -> pb.DirectReply:
        """Carry out an order; the same one again is answered as the first time."""
        async with self._devices.turn:
            stored = pb.DirectOrder.FromString(order.SerializeToString())
            stored.ClearField("token")
            refusal, detail = self._check_order(stored)
            if refusal:
                return pb.DirectReply(refusal=refusal, detail=detail)
            if self._orders.get(stored.order_id) is not None:
                return self._replies.get(stored.order_id, pb.DirectReply(accepted=True, detail="carried out before"))
            try:
                reply = await (self._end(stored) if stored.release else self._reduce(stored))
            except StorageError as error:
                return pb.DirectReply(refusal=RefusalCode.STORE_FAILED.value, detail=str(error))
            self._orders.remember(stored)
            self._replies = {stored.order_id: reply}
            return reply

    def _check_order(self, order: pb.DirectOrder) -> tuple[str, str]:
        bad, what = RefusalCode.BAD_MESSAGE.value, order.WhichOneof("what")
        try:
            is_known = not is_local(order.order_id) and str(UUID(order.order_id)) == order.order_id
        except ValueError:
            is_known = False
        # to nothing is an order, by nothing is none
        is_empty = what is None or (what != "to_kw" and not getattr(order, what))
        if not is_known or is_empty:
            return bad, "an order needs a uuid, and one of to_kw, by_kw, stop, release"
        if what in ("to_kw", "by_kw") and not (math.isfinite(getattr(order, what)) and getattr(order, what) >= 0):
            return bad, f"{what} is {getattr(order, what)}: not a number of kilowatts"
        if not order.reason.strip() or len(order.reason) > TEXT_MAX or "\0" in order.reason:
            return bad, f"an order needs a reason of at most {TEXT_MAX} characters"
        earlier = self._orders.get(order.order_id)
        if earlier is not None and _said(earlier) != _said(order):
            return RefusalCode.REPLAYED.value, f"order {order.order_id} said something else before"
        return "", ""

    async def _reduce(self, order: pb.DirectOrder) -> pb.DirectReply:
        devices, shape = self._devices, self._devices.shape
        draws = present_kw(shape, devices.states, devices.power_kw)
        expected_kw = float(draws.sum())
        beyond_kw = self._beyond_kw()
        most_kw = self._most_kw(order, expected_kw + beyond_kw)
        slots, shed_kw = pick(
            shape, devices.states, draws, expected_kw + beyond_kw - most_kw, shape.is_there, self._rng
        )
        moves = self._local.down(np.flatnonzero(shape.is_there).astype(np.uint32) if order.stop else slots)
        reason = ReasonCode.EMERGENCY_STOP if order.stop else ReasonCode.OPERATOR_CURTAILMENT
        events = await self._act(order, reason, moves)
        devices.bars.held = shape.is_there.copy()
        left_kw = expected_kw + beyond_kw - shed_kw
        too_much = left_kw - most_kw
        return pb.DirectReply(
            accepted=True,
            seq=events[-1].seq,
            devices=sum(len(slots) for _, slots in moves),
            expected_kw=left_kw,
            detail=f"{too_much:.1f} kW above {most_kw:.1f} kW can't go"
            if too_much > _NOTHING_KW and not order.stop
            else "",
        )

    def _most_kw(self, order: pb.DirectOrder, expected_kw: float) -> float:
        match order.WhichOneof("what"):
            case "to_kw":
                return float(order.to_kw)
            case "by_kw":
                drawn_kw = self._devices.shape.meter_kw(self._devices.power_kw) + self._beyond_kw()
                return max(min(drawn_kw if self._devices.is_seen else expected_kw, expected_kw) - order.by_kw, 0.0)
            case _:
                return 0.0

    def _beyond_kw(self) -> float:
        """What the revenue meter shows beyond the devices' own power by the file's PUE; nothing where there is no meter."""
        plant = self._plant.newest
        if plant is None or not self._devices.is_seen:
            return 0.0
        return plant.meter_kw - self._devices.shape.meter_kw(self._devices.power_kw)

    async def _act(self, order: pb.DirectOrder, reason: ReasonCode, moves: list[Move]) -> list[pb.LocalEvent]:
        word = pb.LocalEvent(actor=order.operator, order_id=order.order_id, detail=order.reason)
        entry = ("direct", order.SerializeToString())
        return await self._local.act("direct", reason, moves or self._local.nothing(), word, entry)

    async def _end(self, order: pb.DirectOrder) -> pb.DirectReply:
        """Nothing rises by itself: the owner may raise again."""
        word = pb.LocalEvent(actor=order.operator, order_id=order.order_id, detail=order.reason)
        entry = ("direct", order.SerializeToString())
        (event,) = await self._local.act("released", ReasonCode.RECOVERY, self._local.nothing(), word, entry)
        self._devices.bars.held = np.zeros_like(self._devices.bars.held)
        return pb.DirectReply(accepted=True, seq=event.seq)


def _said(order: pb.DirectOrder) -> tuple[str, str, str, float]:
    what = order.WhichOneof("what") or ""
    return order.facility_id, order.operator, what, float(getattr(order, what)) if what else 0.0


def _bitmap(mask: "np.typing.NDArray[np.bool_]") -> bytes:
    return encode_slots(np.flatnonzero(mask).astype(np.uint32))
