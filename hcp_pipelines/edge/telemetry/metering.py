"""Which readings of a facility's meter go into its samples: one each ten simulated seconds, and none that the collector refuses.

A meter may say anything: no number, less than nothing behind its own generator, the year 1970 after a reset. That costs its own
reading; the devices' samples go on without it.
"""

import structlog

from hcp_pipelines.wire.telemetry import Meter, check_meter

EVERY_US = 10_000_000  # simulated: its register loses nothing between two readings


class Metering:
    """What was told last; belongs to one thread."""

    def __init__(self, facility_id: str) -> None:
        self._told: Meter | None = None
        self._problem = ""
        self._log = structlog.get_logger("edge").bind(facility_id=facility_id)

    def next(self, read: Meter) -> Meter | None:
        """The reading, if it is to be told; None if it makes no sense, or one was told within ten seconds of it."""
        try:
            check_meter(read)
        except ValueError as error:
            self._note(str(error))
            return None
        self._note("")
        told = self._told
        is_better = told is not None and told.energy_mwh is None and read.energy_mwh is not None
        # by its distance: a clock that was put right goes back
        if told is not None and not is_better and abs(read.read_at_us - told.read_at_us) < EVERY_US:
            return None
        self._told = read
        return read

    def _note(self, problem: str) -> None:
        if problem and not self._problem:
            self._log.warning("readings of the meter are left out of telemetry", reason=problem)
        self._problem = problem
