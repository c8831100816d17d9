"""Who serves: a challenger that was measured to be better than the champion is promoted by a check; else a person does it.

Evidence is a paired comparison on the same questions: the trial's, or what both said in the shadow since. It holds against the
champion that it was measured against, and no other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from hcp_pipelines.domain.errors import HcpError, ModelError
from hcp_pipelines.forecasting.serving import served
from hcp_pipelines.orchestration.training import record
from hcp_pipelines.orchestration.training.looks import LEAST_DAYS, least_days
from hcp_pipelines.orchestration.watching import Judged
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import models


@dataclass(frozen=True)
class Evidence:
    """A challenger beside a champion: `comparison` as `told.compared` keeps it, None where `why` says why there is none.

    `alpha`: how often a challenger that is no better may be called so by this look. `is_due`: whether a look is made now.
    """

    version: int
    against: int | None
    comparison: Mapping[str, Any] | None
    why: str
    where: str  # "its trial", "the shadow"
    alpha: float = 0.05
    is_due: bool = True

    @property
    def is_better(self) -> bool:
        """Whether the challenger was measured to be better."""
        return self.comparison is not None and self.comparison["p_value"] < self.alpha

    @property
    def days_missing(self) -> int:
        """So many days more must be compared."""
        found = self.comparison
        if found is None:
            return LEAST_DAYS
        return max(0, least_days(int(found["ahead_days"])) - int(found["days"]))

    def in_words(self) -> str:
        """The figures."""
        found = self.comparison
        if found is None:
            return f"not compared in {self.where}: {self.why}"
        other = f"champion {self.against}" if self.against is not None else str(found["other"])
        ratio = "?" if found["ratio"] is None else f"{found['ratio']:.3f}"  # none where nothing was lost by the other
        return (
            f"{'better' if self.is_better else 'not better'} than {other} in {self.where}: {ratio} times its loss "
            f"over {found['days']} days, p = {found['p_value']:.3g}"
        )


def of_trial(version: models.Version) -> Evidence:
    """What a version's own trial showed."""
    trial = version.metadata.get("trial", {})
    found, why = version.metadata.get("comparison"), trial.get("why", "")
    if found is not None and "ahead_days" not in found:
        found, why = None, "the test of its time did not hold its size; the shadow measures it anew"
    return Evidence(version.version, trial.get("against"), found, why, "its trial")


def judge(
    connection: "psycopg.Connection[Any]", settings: Settings, name: str, actor: str, evidence: Evidence | None = None
) -> Judged:
    """Promote the challenger if it may be and the evidence says so; passes where it was, where there is none, or no look is due.

    It fails where the challenger can't be read, was measured to be no better than what serves, could not be compared, or may not
    be promoted by a check: then the champion goes on serving, and the words say why.
    """
    asked = models.challenger(connection, name)
    serving = models.champion(connection, name)
    serves = f"version {serving.version} serves" if serving else "none serves"
    if asked is None:
        return Judged(True, f"there is no challenger; {serves}")
    version = models.find(connection, name, asked.version)
    evidence = evidence or of_trial(version)
    told = {"challenger": asked.version, "champion": serving.version if serving else 0, "evidence": evidence.in_words()}
    try:
        served(connection, asked)
    except ModelError as error:
        return Judged(False, f"{serves}: challenger {error}", told)
    if not evidence.is_due:
        return Judged(True, f"{serves}: challenger {version.version} is asked beside it; {evidence.why}", told)
    if why := _why_not(version, serving, evidence):
        return Judged(False, f"{serves}: {why}", told)
    try:
        words, figures = evidence.in_words(), dict(evidence.comparison or {})
        models.promote_measured(connection, name, asked.version, evidence.against, actor, words, figures)
    except HcpError as error:
        return Judged(False, f"{serves}: {error}", told)
    followed = record.follow_table(settings, connection, name)
    return Judged(True, f"version {asked.version} was promoted: {evidence.in_words()}; {followed}", told)


def _why_not(version: models.Version, serving: models.Serving | None, evidence: Evidence) -> str:
    """Why a challenger is not promoted now; empty where it is."""
    now_serving = serving.version if serving else None
    if not evidence.is_better:
        return f"challenger {version.version} is {evidence.in_words()}"
    if missing := evidence.days_missing:
        return f"challenger {version.version} is {evidence.in_words()}: {missing} days too few for a check to promote"
    if evidence.against != now_serving:
        measured = f"champion {evidence.against}" if evidence.against is not None else "no champion"
        return f"challenger {version.version} was measured against {measured}; the shadow measures it anew"
    wanted = version.metadata.get("asked", {})
    if groups := wanted.get("groups"):
        return (
            f"challenger {version.version} learnt of {', '.join(groups)} alone and would serve all: `hcp model promote`"
        )
    if not wanted.get("may_promote", True):
        return (
            f"challenger {version.version} is {evidence.in_words()}; promotion was not asked for: `hcp model promote`"
        )
    return ""
