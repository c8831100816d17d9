"""Pods of ours, and what one says as it ends: whether it has kept its work, by its container's termination message. Pure.

The contract of an image: before it ends it writes `{"checkpoint": "NAME"}` to its termination log, the name empty where there is
nothing to go on from, or `{"problem": "WHY"}`. Who says nothing, or is killed before, has kept nothing, and neither has training
that names none. One that can't run what it was told to (its weights, a model, a checkpoint) ends with `{"unfit": "WHY"}`.

Source: the published API reference, core/v1 Pod (ContainerStateTerminated), and its "Determine the Reason for Pod Failure".
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from hcp_pipelines.devices.kubernetes.codec import CONTAINER, Camel, Json, Meta, checked

JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")  # the second before Kubernetes 1.27
OVER = ("Succeeded", "Failed")
TEXT_MAX = 500


@dataclass(frozen=True, slots=True)
class Ended:
    """What a pod said at its end: `problem` is empty where it has kept its work."""

    checkpoint: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of a Job; `ended` is None while it runs, or is to."""

    name: str
    job: str
    ended: Ended | None
    unfit: str = ""  # why it can't run what it was told to, by its container's last word
    ended_at: str = ""  # as the server writes instants: UTC, to the second; empty where nobody says


UNSEEN = Ended("", "its pod was gone before anybody had read what it said")


class _Terminated(Camel):
    exit_code: int = Field(default=0, alias="exitCode")
    finished_at: str | None = Field(default=None, alias="finishedAt", max_length=64)
    reason: str = ""
    message: str | None = None


class _State(Camel):
    terminated: _Terminated | None = None


class _ContainerStatus(Camel):
    name: str
    state: _State = Field(default_factory=_State)
    before: _State = Field(default_factory=_State, alias="lastState")  # it is started again by the node


class _PodStatus(Camel):
    phase: str = ""
    reason: str = ""
    containers: list[_ContainerStatus] = Field(default_factory=list, alias="containerStatuses")


class _Pod(Camel):
    metadata: Meta
    status: _PodStatus = Field(default_factory=_PodStatus)


def decode_pod(body: Json) -> Pod | None:
    """A pod; None where it is no Job's.

    Raises:
        DeviceReplyError: it is none.
    """
    said = checked(body, _Pod, "a Pod")
    job = next((said.metadata.labels[label] for label in JOB_LABELS if label in said.metadata.labels), "")
    if not job:
        return None
    work = next((one for one in said.status.containers if one.name == CONTAINER), None)
    own, last = (work.state.terminated, work.state.terminated or work.before.terminated) if work else (None, None)
    unfit = str(_said(last.message or "").get("unfit") or "")[:TEXT_MAX] if last else ""
    if own is not None:
        word = ended_of(own.message or "", own.reason or f"exit code {own.exit_code}")
        return Pod(said.metadata.name, job, word, unfit, own.finished_at or "")
    ended = (
        Ended("", f"its pod ended: {said.status.reason or said.status.phase}") if said.status.phase in OVER else None
    )
    return Pod(said.metadata.name, job, ended, unfit)


def last_word(pods: Sequence[Pod]) -> Ended:
    """What the pod said that ended last, of at least one; that of one that is gone unheard where there is such a one.

    Who does not say when is taken for the last, and so is, of two that ended in one second, the one that kept nothing.

    >>> ten, nine = (Pod(n, "j", Ended(n), "", f"2026-01-02T03:00:{n[2:]}Z") for n in ("c/10", "c/09"))
    >>> last_word([ten, nine]).checkpoint
    'c/10'
    """
    if any(pod.ended is None for pod in pods):
        return UNSEEN
    last = max(pods, key=lambda pod: (pod.ended_at or "~", bool(pod.ended and pod.ended.problem)))
    return last.ended or UNSEEN


def ended_of(message: str, reason: str) -> Ended:
    """What a termination message says.

    >>> ended_of('{"checkpoint": "s3://c/7"}', "Completed").checkpoint
    's3://c/7'
    >>> ended_of("", "OOMKilled").problem
    'its pod ended without saying that it has kept its work: OOMKilled'
    """
    said = _said(message)
    named, problem = said.get("checkpoint"), said.get("problem") or said.get("unfit")
    if problem:
        return Ended("", str(problem)[:TEXT_MAX])
    if isinstance(named, str) and len(named) <= TEXT_MAX and named.isprintable():
        return Ended(named)
    return Ended("", f"its pod ended without saying that it has kept its work: {reason}"[:TEXT_MAX])


def _said(message: str) -> Json:
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
