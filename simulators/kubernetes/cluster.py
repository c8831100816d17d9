"""What a cluster does with Jobs in simulated time: pods get any free GPU of their node, load, are ready, and end in their grace.

Which GPU a pod gets is the cluster's own choice, at random. Boards draw by the state that the Job's pod is in.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from simulators.kubernetes.store import Json, Store
from simulators.kubernetes.troubles import Troubles
from simulators.streams import stream

IDLE = 1
STATE_LABEL = "hcp.local/state"
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
    phase: str = "pending"
    gpu: int | None = None
    due_s: float = 0.0


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
            self._pods.append(Pod(name, node, state, due_s=now_s + self._random.uniform(*SCHEDULED_S)))
        elif not is_wanted:
            for pod in pods:
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
            pod.phase = "failed" if any(part in pod.job for part in self.troubles.fails) else "ready"
            if pod.phase == "ready":
                self._set_state(host.address, pod.gpu, pod.state)
        elif pod.phase == "ending":
            if host is not None and pod.gpu is not None:
                host.taken.pop(pod.gpu, None)
                self._set_state(host.address, pod.gpu, IDLE)
            self._pods.remove(pod)

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
