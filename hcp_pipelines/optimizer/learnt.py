"""What the champion says of each facility's steps as they are solved: what being on is worth when the interval ends, in wakes.

Where it can't say, the plain band stands, with the reason in the policy: a model never costs a solve. Learning is not here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from hcp_pipelines.domain.errors import ModelError
from hcp_pipelines.domain.ticks import Stream
from hcp_pipelines.economics.mining import HASHPRICE
from hcp_pipelines.economics.power import INTERVAL_MINUTES
from hcp_pipelines.forecasting.model_file import Artefact
from hcp_pipelines.forecasting.power_features import power_features
from hcp_pipelines.forecasting.price_paths import price_paths
from hcp_pipelines.forecasting.trees import Floats, Matrix
from hcp_pipelines.optimizer.inputs import FacilityInputs, StepKey
from hcp_pipelines.optimizer.price_record import LEAST_KNOWN, PriceRecord, price_records
from hcp_pipelines.optimizer.steps import INTERVAL_H, steps_of
from hcp_pipelines.optimizer.waiting import Outlook
from hcp_pipelines.policy.schema import StrikesFrom
from hcp_pipelines.storage import models

WAITING = "waiting"
LONGEST_UNTAUGHT = timedelta(days=190)  # scored up to half a year beyond what it learnt from, and no further
LEAST_KNOWN_SHARE = 0.95  # of the last two days' prices
NONE_YET = "no model has been promoted"
NO_MINERS = "it has no miners' step that a wake is paid for"


@dataclass(frozen=True)
class Champion:
    """The model that serves, read and checked."""

    artefact: Artefact
    version: int
    digest: str

    @property
    def strikes_from(self) -> StrikesFrom:
        """What a policy says of it."""
        return StrikesFrom(model=f"{WAITING} {self.version}", digest=self.digest)


def with_learnt(
    connection: "psycopg.Connection[Any]",
    inputs: Sequence[FacilityInputs],
    now: datetime,
    max_tick_id: int | None = None,
) -> list[FacilityInputs]:
    """The inputs with what the champion says, or with the reason why it says nothing. Nothing here fails a solve."""
    try:
        found = champion(connection, now)
        if found is None:
            return [replace(each, strikes_from=StrikesFrom(reason=NONE_YET)) for each in inputs]
        decided = {each.site.settlement_point: decided_of(each) for each in inputs}
        records = price_records(connection, decided, now, max_tick_id)
        return with_worth(found, inputs, records)
    except ModelError as error:
        return _without(inputs, str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, policies are made without it
        return _without(inputs, f"{type(error).__name__}: {error}")


def champion(connection: "psycopg.Connection[Any]", now: datetime) -> Champion | None:
    """The model that serves; None where none has been promoted. Read and checked anew for each run, in 5 ms.

    Raises:
        ModelError: it is damaged, answers another question, or is too old or from the future.
    """
    serving = models.champion(connection, WAITING)
    if serving is None:
        return None
    try:
        artefact = Artefact.from_bytes(models.artefact(connection, serving), serving.digest)
        _refuse_unfit(artefact, now)
    except ModelError as error:
        raise ModelError(f"{WAITING} {serving.version}: {error}") from error
    return Champion(artefact, serving.version, serving.digest)


def _refuse_unfit(artefact: Artefact, now: datetime) -> None:
    if (artefact.name, artefact.step_minutes, artefact.delay) != (WAITING, INTERVAL_MINUTES, 0):
        raise ModelError(
            f"it is {artefact.name} for steps of {artefact.step_minutes} minutes told {artefact.delay} late: must be "
            f"{WAITING} for {INTERVAL_MINUTES} minutes told 0 late"
        )
    age = now - artefact.trained_until
    if age > LONGEST_UNTAUGHT:
        raise ModelError(
            f"it learnt nothing for {age / timedelta(days=1):.1f} days, at most {LONGEST_UNTAUGHT.days}: run waiting_model_job"
        )
    if age < timedelta(0):
        raise ModelError(f"it was trained until {artefact.trained_until:%Y-%m-%d %H:%M}Z, which is still to come")


def decided_of(inputs: FacilityInputs) -> tuple[datetime, float]:
    """The instant of the newest LMP, and the decision price that follows from it."""
    age = timedelta(seconds=inputs.input_age_s.get(Stream.POWER_RT_LMP.value, 0.0))
    return inputs.solved_at - age, inputs.decision_price_usd_per_mwh


def with_worth(
    found: Champion, inputs: Sequence[FacilityInputs], records: Mapping[str, PriceRecord]
) -> list[FacilityInputs]:
    """The inputs with E[D] of every step that a wake is paid for, all asked at once. A point of too few known prices has none.

    Raises:
        ModelError: the model wants to see other columns, or says what is no number.
    """
    lacking = {point: why for point, record in records.items() if (why := _lacks(point, record))}
    worth: dict[tuple[str, StepKey], float] = {}
    for point in records.keys() - lacking.keys():
        asked = [step for each in inputs if each.site.settlement_point == point for step in _asked(each)]
        if asked:
            keys, revenues, wakes = zip(*asked, strict=True)
            rows = _rows(found.artefact, records[point], np.array(revenues), np.array(wakes))
            worth |= dict(zip(keys, _ask(found.artefact, rows).tolist(), strict=True))
    return [_said(each, found, worth, lacking.get(each.site.settlement_point)) for each in inputs]


def _said(
    inputs: FacilityInputs, found: Champion, worth: Mapping[tuple[str, StepKey], float], why_not: str | None
) -> FacilityInputs:
    if why_not is not None:
        return replace(inputs, strikes_from=StrikesFrom(reason=why_not))
    own = {key: value for (facility_id, key), value in worth.items() if facility_id == inputs.site.facility_id}
    return replace(inputs, worth_wakes=own, strikes_from=found.strikes_from if own else StrikesFrom(reason=NO_MINERS))


def _without(inputs: Sequence[FacilityInputs], reason: str) -> list[FacilityInputs]:
    word = StrikesFrom(reason=reason[:300], is_model_unfit=True)
    return [replace(each, strikes_from=word) for each in inputs]


def _lacks(point: str, record: PriceRecord) -> str:
    least_h = LEAST_KNOWN.total_seconds() / 3600
    if record.known_h >= LEAST_KNOWN_SHARE * least_h:
        return ""
    return f"{record.known_h:.0f} of the last {least_h:.0f} hours' prices at {point} are known"


def _asked(inputs: FacilityInputs) -> Iterator[tuple[tuple[str, StepKey], float, float]]:
    """Revenue in $/MWh and a wake in $/MW of each miners' step that a wake is paid for: others it has not learnt from."""
    site, index = inputs.site, inputs.indices.get(HASHPRICE)
    if index is None:
        return
    for step in (step for group in site.groups if group.index == HASHPRICE for step in steps_of(group, site, index)):
        wake_usd = step.wake_usd_per_mw(index)
        if wake_usd > 0:
            yield (site.facility_id, (step.group.group_id, step.to_state)), step.value.at(index), wake_usd


def _rows(artefact: Artefact, record: PriceRecord, revenue_usd_per_mwh: Floats, wake_usd: Floats) -> Matrix:
    """What is known at a point at the interval that is decided on, as the model sees it: a row a step.

    Raises:
        ModelError: the model wants to see other columns.
    """
    n = len(record.known)
    features = power_features(record.known, record.day_ahead, record.starts_us, INTERVAL_MINUTES, 0)
    paths = price_paths(record.known, record.day_ahead, INTERVAL_MINUTES, 0)
    outlook = Outlook(features, paths, np.zeros(n), np.ones(n), INTERVAL_H)
    if artefact.columns != outlook.names:
        missing = ", ".join([name for name in artefact.columns if name not in outlook.names][:5]) or "another order"
        raise ModelError(f"it wants to see {missing}, which this version does not make: run waiting_model_job")
    return outlook.assets_at(record.row, revenue_usd_per_mwh, wake_usd)


def _ask(artefact: Artefact, rows: Matrix) -> Floats:
    """E[D] in wakes, 0 to 1.

    Raises:
        ModelError: one is no number.
    """
    worth = artefact.trees.predict(rows)
    if not np.isfinite(worth).all():
        raise ModelError(f"it says {worth[~np.isfinite(worth)][0]} of a step")
    return np.clip(worth, 0.0, 1.0)
