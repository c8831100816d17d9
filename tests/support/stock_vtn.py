"""openleadr's server, unchanged, with handlers that keep what they are told."""

import contextlib
import socket
from datetime import timedelta

from openleadr import OpenADRServer

from hcp_pipelines.domain.clock import SystemClock


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class StockServer:
    """`opts` by event; `watts` as (instant, value); who has registered."""

    def __init__(self, port, **secure):
        self.opts, self.watts, self.registered = {}, [], []
        self.server = OpenADRServer(
            "STOCK-VTN", http_port=port, http_host="127.0.0.1", show_fingerprint=False, **secure
        )
        self.server.services["registration_service"].poll_freq = timedelta(seconds=1)
        self.server.add_handler("on_create_party_registration", self._register)
        self.server.add_handler("on_register_report", self._report)
        self.url = f"{'https' if secure else 'http'}://127.0.0.1:{port}/OpenADR2/Simple/2.0b"

    async def _register(self, info):
        self.registered.append(info["ven_name"])
        return "ven-1", f"registration-{len(self.registered)}"

    async def _report(
        self, ven_id, resource_id, measurement, unit, scale, min_sampling_interval, max_sampling_interval
    ):
        self.resource, self.unit = resource_id, unit
        return self._values, min_sampling_interval

    async def _values(self, values):
        self.watts += values

    async def opted(self, ven_id, event_id, opt_type):
        self.opts[event_id] = opt_type

    def ask(
        self,
        event_id="ev-1",
        watts=-2e5,
        begins_in_s=600,
        lasts_s=900,
        signal=("LOAD_DISPATCH", "delta"),
        resources=("one",),
    ):
        """Publish an event; when it begins."""
        begins, lasts = SystemClock().real_now() + timedelta(seconds=begins_in_s), timedelta(seconds=lasts_s)
        self.server.add_event(
            "ven-1", *signal, [{"dtstart": begins, "duration": lasts, "signal_payload": watts}], self.opted,
            event_id=event_id, market_context="http://utility.example/dr",
            targets=[{"resource_id": resource} for resource in resources],
        )  # fmt: skip
        return begins


@contextlib.asynccontextmanager
async def stock_server(port=None, **secure):
    stock = StockServer(port or free_port(), **secure)
    await stock.server.run()
    try:
        yield stock
    finally:
        await stock.server.stop()
