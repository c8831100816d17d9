"""Asks Dagster for backfills and follows them, by the public API as its UI does. Imports no dagster.

A backfill is Dagster's from the moment it is asked for: it goes on when whoever asked is gone, and when its daemon is killed and
comes back.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import NotRunningError
from hcp_pipelines.orchestration.history.plan import JOINED, Order
from hcp_pipelines.orchestration.probes import patient_graphql

POLL_S = 1.0
AWAY_AT_MOST_S = 120.0  # the webserver may be restarted meanwhile
ENDED = frozenset({"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"})
REQUEST = """
mutation Backfill($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename
  ... on LaunchBackfillSuccess { backfillId }
  ... on PythonError { message }
  ... on UnauthorizedError { message }
  ... on PartitionKeysNotFoundError { message }
  ... on InvalidSubsetError { message }
} }
"""
STATUS = """
query Status($id: String!) { partitionBackfillOrError(backfillId: $id) {
  __typename
  ... on PartitionBackfill { status error { message } assetBackfillData { assetBackfillStatuses {
    ... on AssetPartitionsStatusCounts { assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed }
  } } }
} }
"""
Progress = Callable[[str, int, int], None]


@dataclass
class Backfill:
    """One that was asked for: how far each of its assets is, as days done, failed and asked for."""

    id: str
    order: Order
    status: str = "REQUESTED"
    error: str = ""
    done: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED

    @property
    def is_complete(self) -> bool:
        """Whether every day of every asset is there."""
        return all(self.done.get(asset, 0) == len(self.order.days) for asset in self.order.assets)


class Backfilling:
    """Requests and their state; `backfills` holds what was asked for so far, also after a failure."""

    def __init__(self, client: httpx.AsyncClient, port: int, clock: Clock) -> None:
        self._client = client
        self._port = port
        self._clock = clock
        self.backfills: list[Backfill] = []

    async def run(self, orders: Sequence[Order], progress: Progress) -> None:
        """Ask for all sources at once, then, where these are there, for what is joined of them; return when all has ended.

        Raises:
            NotRunningError: the webserver is away for longer than two minutes, or refuses.
        """
        await self._together([order for order in orders if order.source != JOINED], progress)
        if all(each.is_complete for each in self.backfills):
            await self._together([order for order in orders if order.source == JOINED], progress)

    async def _together(self, orders: Sequence[Order], progress: Progress) -> None:
        asked = [await self._request(order) for order in orders]
        while open_ones := [each for each in asked if not each.has_ended]:
            await asyncio.sleep(POLL_S)
            for each in open_ones:
                await self._look(each)
                for asset in each.order.assets:
                    progress(asset, each.done.get(asset, 0), len(each.order.days))

    async def _request(self, order: Order) -> Backfill:
        params = {
            "assetSelection": [{"path": [asset]} for asset in order.assets],
            "partitionNames": list(order.days),
            "tags": [{"key": "hcp/kind", "value": "backfill"}, {"key": "hcp/source", "value": order.source}],
            "title": f"{order.source}: {order.days[0]} to {order.days[-1]}",
        }
        reply = (await self._ask(REQUEST, {"params": params}))["launchPartitionBackfill"]
        if reply["__typename"] != "LaunchBackfillSuccess":
            why = f"{reply['__typename']}: {reply.get('message', '')[:300]}"
            raise NotRunningError(f"Dagster refuses to backfill {order.source}: {why}")
        self.backfills.append(Backfill(str(reply["backfillId"]), order))
        return self.backfills[-1]

    async def _look(self, backfill: Backfill) -> None:
        reply = (await self._ask(STATUS, {"id": backfill.id}))["partitionBackfillOrError"]
        if reply["__typename"] != "PartitionBackfill":
            backfill.status, backfill.error = "FAILED", f"Dagster knows it no more: {reply['__typename']}"
            return
        backfill.status, backfill.error = reply["status"], (reply["error"] or {}).get("message", "")
        for counts in (reply["assetBackfillData"] or {}).get("assetBackfillStatuses", []):
            asset = counts["assetKey"]["path"][-1]
            backfill.done[asset], backfill.failed[asset] = (
                counts["numPartitionsMaterialized"],
                counts["numPartitionsFailed"],
            )

    async def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The reply; a webserver that is away is waited for."""
        try:
            return await patient_graphql(
                self._client, self._port, self._clock, query, variables, AWAY_AT_MOST_S, POLL_S
            )
        except httpx.HTTPError as error:
            ids = ", ".join(each.id for each in self.backfills) or "none"
            raise NotRunningError(
                f"Dagster's webserver on port {self._port} does not answer ({error!r}). Backfills asked for so far go on "
                f"without it: {ids}. Is `hcp up` running? `hcp status` tells."
            ) from error
