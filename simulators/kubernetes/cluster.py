"""What a cluster does with Jobs in simulated time: pods get any free GPU of their node, load, are ready, and end in their grace.

Which GPU a pod gets is the cluster's own choice, at random. Boards draw by the state that the Job's pod is in. As a pod ends its
container writes what it has kept to its termination log, and its object is gone one step after that was told.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from simulators.kubernetes.store import Json, Store
from simulators.kubernetes.troubles import Troubles
from simulators.streams import stream

IDLE = 1
STATE_LABEL, WORK_NOTE = "hcp.local/state", "hcp.local/work"
SCHEDULED_S, LOADED_S, ENDED_S = (
    (0.5, 2.0),
    (8.0, 60.0),
    (0.5, 8.0),
)  # simulated; ours, loading as `gpus.timings` has it

SetState = Callable[[str, int, int], None]  # node's address, GPU, state


@dataclass(eq=False)
class Pod:
    """A pod of a Job: pending, loading, ready, ending."""

    job: str
    node: str
    state: int
    name: str = ""
    phase: str = "pending"
    gpu: int | None = None
    due_s: float = 0.0
    has_begun: bool = False  # its container has run


@dataclass
class KubeHost:
    """A node and who has its GPUs."""

    name: str
    address: str
    gpus: int
    taken: dict[int, Pod] = field(default_factory=dict)


class Cluster:
    """Hosts, Jobs and pods."""

    def __init__(self, hosts: list[KubeHost], store: Store, troubles: Troubles, seed: int, set_state: SetState) -> None:
        self.store, self.troubles = store, troubles
        self._hosts = {host.name: host for host in hosts}
        self._set_state = set_state
        self._pods: list[Pod] = []
        self._made = 0
        self._random: np.random.Generator = stream(seed, "kubernetes.pods")
        for host in hosts:
            store.put("nodes", _node(host))

    def advance(self, now_s: float) -> None:
        """Come to an instant: begin and end pods as Jobs want, and tell what has changed of Jobs."""
        for job in self.store.all("jobs"):
            self._follow(job, now_s)
        for pod in list(self._pods):
            self._step(pod, now_s)
        for job in self.store.all("jobs"):
            self._tell(job)

    def set_node(self, name: str, *, is_ready: bool = True, is_cordoned: bool = False) -> None:
        """Cordon a node, or have its kubelet fall silent."""
        self.store.put("nodes", _node(self._hosts[name], is_ready=is_ready, is_cordoned=is_cordoned))

    def pods_of(self, job: str) -> list[Pod]:
        """A Job's pods."""
        return [pod for pod in self._pods if pod.job == job]

    def _follow(self, job: Json, now_s: float) -> None:
        name, spec = job["metadata"]["name"], job["spec"]
        pods = [pod for pod in self.pods_of(name) if pod.phase != "ending"]
        is_wanted = not spec.get("suspend") and "deletionTimestamp" not in job["metadata"] and not _is_over(job)
        if is_wanted and not pods:
            node = spec["template"]["spec"]["nodeSelector"]["kubernetes.io/hostname"]
            state = int(job["metadata"]["labels"].get(STATE_LABEL, IDLE))
            self._made += 1
            due_s = now_s + self._random.uniform(*SCHEDULED_S)
            pod = Pod(name, node, state, f"{name}-{self._made:05x}", due_s=due_s)
            self._pods.append(pod)
            self._tell_pod(pod, job)
        elif not is_wanted:
            for pod in pods:
                pod.has_begun = pod.phase in ("loading", "ready")
                grace_s = 0.0 if pod.phase == "failed" else self._random.uniform(*ENDED_S)
                pod.phase, pod.due_s = "ending", now_s + grace_s
        if "deletionTimestamp" in job["metadata"] and not self.pods_of(name):
            self.store.remove("jobs", name)

    def _step(self, pod: Pod, now_s: float) -> None:
        if now_s < pod.due_s:
            return
        host = self._hosts.get(pod.node)
        if pod.phase == "pending" and host is not None:
            free = [gpu for gpu in range(host.gpus) if gpu not in host.taken]
            if free:
                pod.gpu = int(self._random.choice(free))
                host.taken[pod.gpu] = pod
                pod.phase, pod.due_s = "loading", now_s + self._random.uniform(*LOADED_S)
        elif pod.phase == "loading" and host is not None and pod.gpu is not None:
            if any(part in pod.job for part in self.troubles.never_ready):
                return
            if why := next((why for part, why in self.troubles.unfit.items() if part in pod.job), ""):
                self._crash(pod, why)
                return
            pod.phase = "failed" if any(part in pod.job for part in self.troubles.fails) else "ready"
            if pod.phase == "ready":
                self._set_state(host.address, pod.gpu, pod.state)
        elif pod.phase == "ending":
            if host is not None and pod.gpu is not None:
                host.taken.pop(pod.gpu, None)
                self._set_state(host.address, pod.gpu, IDLE)
            self._end_pod(pod, now_s)
            self._pods.remove(pod)

    def _crash(self, pod: Pod, why: str) -> None:
        """Its container has ended by itself, and waits to be started once more."""
        body = self.store.get("pods", pod.name)
        ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": json.dumps({"unfit": why})}}
        work = {
            "name": "work",
            "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": ended,
        }
        status = {"phase": "Running", "containerStatuses": [work]}
        if body is not None and body["status"] != status:
            self.store.put("pods", body | {"status": status})

    def _end_pod(self, pod: Pod, now_s: float) -> None:
        """Its end with what its container said; nothing of one that had not begun, or whose node was gone."""
        job, body = self.store.get("jobs", pod.job), self.store.get("pods", pod.name)
        if body is None:
            return
        if job is not None and pod.has_begun and not any(part in pod.job for part in self.troubles.killed):
            self.store.put("pods", body | {"status": _ended(self._says(pod, job), now_s)})
        self.store.remove("pods", pod.name)

    def _says(self, pod: Pod, job: Json) -> Json:
        problem = next((why for part, why in self.troubles.keeps_nothing.items() if part in pod.job), "")
        work = job["metadata"].get("annotations", {}).get(WORK_NOTE, "")
        is_named = work and not any(part in pod.job for part in self.troubles.nameless)
        return {"problem": problem} if problem else {"checkpoint": f"{work}/{pod.name}" if is_named else ""}

    def _tell_pod(self, pod: Pod, job: Json) -> None:
        labels = job["spec"]["template"].get("metadata", {}).get("labels", {})
        meta = {"name": pod.name, "labels": labels | {"batch.kubernetes.io/job-name": pod.job, "job-name": pod.job}}
        status = {"phase": "Pending", "containerStatuses": [{"name": "work", "state": {"waiting": {}}}]}
        self.store.put("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status})

    def _tell(self, job: Json) -> None:
        """A Job's status, where it is another than it was."""
        pods = self.pods_of(job["metadata"]["name"])
        at_work = [pod for pod in pods if pod.phase in ("pending", "loading", "ready")]
        conditions = list(job.get("status", {}).get("conditions", []))
        if any(pod.phase == "failed" for pod in pods) and not _is_over(job):
            conditions.append({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"})
        suspended = "True" if job["spec"].get("suspend") else "False"
        conditions = [one for one in conditions if one["type"] != "Suspended"]
        conditions.append({"type": "Suspended", "status": suspended})
        status = {
            "active": len(at_work),
            "ready": sum(pod.phase == "ready" for pod in at_work),
            "terminating": sum(pod.phase == "ending" for pod in pods),
            "conditions": conditions,
        }
        if status != job.get("status"):
            self.store.put("jobs", job | {"status": status})


def _ended(said: Json, now_s: float) -> Json:
    finished_at = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    terminated = {"exitCode": 0, "reason": "Completed", "message": json.dumps(said), "finishedAt": finished_at}
    return {"phase": "Succeeded", "containerStatuses": [{"name": "work", "state": {"terminated": terminated}}]}


def _is_over(job: Json) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def _node(host: KubeHost, *, is_ready: bool = True, is_cordoned: bool = False) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": host.name, "labels": {"kubernetes.io/hostname": host.name}},
        "spec": {"unschedulable": True} if is_cordoned else {},
        "status": {
            "addresses": [{"type": "InternalIP", "address": host.address}, {"type": "Hostname", "address": host.name}],
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "True" if is_ready else "Unknown"},
            ],
            "allocatable": {"nvidia.com/gpu": str(host.gpus)},
        },
    }
