"""A wave as spans of its tick: the whole way to the ack, and within a first one each step from the one before it."""

from collections.abc import Mapping

from hcp_pipelines.allocator.wave import Wave
from hcp_pipelines.runtime.spans import are_wanted, tell_span


def tell_wave(wave: Wave, until_ms: float, steps_ms: Mapping[str, float]) -> None:
    """Tell what a wave took that is acked now; `steps_ms`: of a first one when each step was done, after the tick's commit.

    One that no tick began is told, too: what its gateway tells is part of it.
    """
    if not are_wanted():
        return
    tick_id, command_id = wave.decision.tick_id, str(wave.command_id)
    devices = sum(row.devices for row in wave.rows)
    tell_span(
        "wave", tick_id, until_ms / 1e3, key=command_id,
        facility_id=wave.facility_id, devices=devices, reason=wave.command.reason,
    )  # fmt: skip
    before_ms = 0.0
    for step, done_ms in sorted(steps_ms.items(), key=lambda one: one[1]):
        took_s, ago_s = (done_ms - before_ms) / 1e3, (until_ms - done_ms) / 1e3
        tell_span(step, tick_id, took_s, ago_s=ago_s, key=f"{step}/{command_id}", under=command_id)
        before_ms = done_ms
