"""GPU nodes of a Kubernetes cluster under the gateway's driver: over TLS, with a server that is as bad as real ones get."""

import asyncio
import uuid
from dataclasses import replace

import numpy as np
import pytest

from hcp_pipelines.devices import again
from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.kubernetes import codec, mirror, pods
from hcp_pipelines.devices.kubernetes.site import NODES_PATH
from hcp_pipelines.devices.kubernetes.token import TokenFile
from hcp_pipelines.devices.kubernetes.transport import ApiTransport
from hcp_pipelines.devices.site import Evidence
from hcp_pipelines.devices.switches import PHASE_WITHIN_S, Outcome, Phase
from hcp_pipelines.domain.errors import DeviceReplyError, DeviceUnreachableError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.wire.certificates import make_authority
from tests.support.edge import until
from tests.support.gpus import FIRST_GPU
from tests.support.kubernetes import POLL_MS, kube_rig

IDLE, BATCH, TRAINING = DeviceState.IDLE, DeviceState.INFERENCE_BATCH, DeviceState.TRAINING


@pytest.fixture
def rig(tmp_path, monkeypatch):
    """Makes a rig whose retries do not take a test's time."""
    return lambda *own, **options: kube_rig(tmp_path, *own, monkeypatch=monkeypatch, **options)


async def test_slots_are_jobs_that_are_suspended_and_resumed(rig):
    async with rig() as one:
        assert one.site.devices == FIRST_GPU + 8
        assert (await one.site.read_states())[FIRST_GPU:].tolist() == [IDLE] * 8
        await one.run(BATCH, [0, 1])
        assert await one.tell(IDLE, [0]) == ([0], [])
        await one.settle(BATCH, *[IDLE] * 7)
        assert await one.tell(BATCH, [0]) == ([0], [])
        await one.settle(BATCH, BATCH, *[IDLE] * 6)
        assert one.writes().count("POST") == 2, "what was there is resumed, not made again"
        assert set(one.writes()) == {"POST", "PATCH"}, (
            "a patch may be a conflict with the cluster's own word, and said again"
        )
        states = await one.site.read_states()
        assert (states[FIRST_GPU:].tolist(), set(states[:FIRST_GPU])) == ([BATCH, BATCH, *[IDLE] * 6], {255})


async def test_power_is_dealt_out_to_the_slots_whose_jobs_should_draw_it(rig):
    async with rig() as one:
        await one.run(BATCH, [2, 5])
        one.world.pass_time(30)
        await one.rounds(2)
        reading = one.readings[-1]
        power = reading.values[FIRST_GPU:]
        assert np.flatnonzero(power > 1000).tolist() == [2, 5], "whichever boards the cluster took"
        assert set(reading.evidence[FIRST_GPU:].tolist()) == {Evidence.MEASURED}
        assert reading.simulated_at_s == one.world.clock.now_s() - 1.0


async def test_what_runs_is_switched_in_phases_that_are_measured_and_kept(rig):
    async with rig() as one:
        await one.run(BATCH, [0])
        sent = one.send(TRAINING, [0])
        await until(lambda: one.book.words, "it has begun")
        assert (TRAINING, False) not in one.jobs()[0], "the board is not free yet"
        await one.settle(TRAINING, *[IDLE] * 7)
        assert [part.tolist() for part in await one.site.finish_state(sent)] == [[FIRST_GPU], []]
        await until(lambda: one.book.outcomes() == [Outcome.SWITCHED], "it is over")
        last = one.book.words[-1]
        assert set(last.phases_ms) == {Phase.PAUSE, Phase.START}
        assert min(last.device_ms[Phase.PAUSE], last.device_ms[Phase.START]) > 0
        assert sorted(one.jobs()[0]) == [(BATCH, True), (TRAINING, False)]


async def test_a_start_that_is_forbidden_touches_nothing_that_runs(rig):
    async with rig() as one:
        await one.run(BATCH, [0])
        one.server.troubles.refuse_starts = True
        assert await one.tell(TRAINING, [0]) == ([], [0])
        assert one.jobs()[0] == [(BATCH, False)]
        assert one.book.words == []


@pytest.mark.parametrize("trouble", ["never_ready", "fails"])
async def test_what_does_not_become_ready_is_rolled_back_and_not_tried_again(rig, trouble):
    ref = uuid.uuid4()
    within = {**PHASE_WITHIN_S, Phase.START: 120.0}
    async with rig(phase_within_s=within) as one:
        await one.run(BATCH, [0])
        getattr(one.server.troubles, trouble).add("training")
        assert await one.tell(TRAINING, [0], ref=ref) == ([0], []), "told; whether it comes is seen later"
        await one.until(lambda: Outcome.ROLLED_BACK in one.book.outcomes(), "it is rolled back", 30.0)
        await one.settle(BATCH, *[IDLE] * 7)
        writes = len(one.writes())
        assert await one.tell(TRAINING, [0], ref=ref) == ([], [0])
        assert len(one.writes()) == writes


async def test_a_newer_command_takes_over(rig):
    async with rig() as one:
        await one.run(BATCH, [0])
        await one.tell(TRAINING, [0])
        await one.tell(BATCH, [0])
        await one.until(lambda: Outcome.SUPERSEDED in one.book.outcomes(), "the older one is over")
        await one.settle(BATCH, *[IDLE] * 7)


async def test_conflicts_and_servers_that_fail_now_and_then_are_tried_again(rig):
    async with rig() as one:
        await one.run(BATCH, [0])
        one.server.troubles.conflict_next = 2
        assert await one.tell(IDLE, [0]) == ([0], [])
        one.server.troubles.fail_next = [500, 503, 429]
        assert await one.tell(BATCH, [0]) == ([0], [])
        await one.settle(BATCH, *[IDLE] * 7)


async def test_a_token_that_has_expired_is_refused_until_the_file_has_another(rig):
    async with rig() as one:
        one.server.api.tokens = {"service-account-token-2"}
        assert await one.tell(BATCH, [0]) == ([], [0])
        one.token_file.write_text("service-account-token-2\n")
        assert await one.tell(BATCH, [0]) == ([0], [])


async def test_a_watch_that_is_cut_or_has_lost_its_place_goes_on(rig):
    async with rig() as one:
        one.server.troubles.cut_watches_after = 1
        one.server.troubles.has_bookmarks = False
        await one.run(BATCH, [0, 1])
        await until(lambda: sum(job.ready for job in one.site._jobs.objects.values()) == 2, "both are seen ready")
        one.server.troubles.cut_watches_after = 0
        lists = one.server.api.calls.count(("GET", "/apis/batch/v1/namespaces/hcp/jobs"))
        one.server.store.compact()
        one.server.cluster.set_node("node-0", is_cordoned=True)
        one.server.store.compact()
        await until(lambda: one.site._nodes.objects["node-0"].is_cordoned, "listed anew")
        await until(
            lambda: one.server.api.calls.count(("GET", "/apis/batch/v1/namespaces/hcp/jobs")) > lists, "and Jobs, too"
        )
        assert await one.tell(BATCH, [2]) == ([], [2]), "it takes no new work"
        assert await one.tell(IDLE, [0]) == ([0], []), "and may rest"


async def test_a_node_that_is_not_ready_is_unreachable_and_a_job_that_failed_makes_way(rig):
    async with rig() as one:
        one.server.cluster.set_node("node-0", is_ready=False)
        await until(lambda: not one.site._nodes.objects["node-0"].is_ready, "it is seen")
        assert await one.tell(BATCH, [0]) == ([], [0])
        one.server.cluster.set_node("node-0")
        await until(lambda: one.site._nodes.objects["node-0"].is_ready, "it is back")
        one.server.troubles.fails.add("batch")
        await one.tell(BATCH, [0])
        await one.until(lambda: any(j.ended == "Failed" for j in one.site._jobs.objects.values()), "it has failed")
        one.server.troubles.fails.clear()
        assert await one.tell(BATCH, [0]) == ([0], [])
        await one.settle(BATCH, *[IDLE] * 7)
        assert "DELETE" in one.writes()


async def test_two_commands_of_one_instant_are_both_told_and_what_a_cordon_refused_is_asked_again(rig, monkeypatch):
    monkeypatch.setattr(again, "RETRY_AFTER_S", (0.05,))
    async with rig() as one:
        one.server.cluster.set_node("node-0", is_cordoned=True)
        await until(lambda: one.site._nodes.objects["node-0"].is_cordoned, "it is seen")
        refs = [uuid.uuid4(), uuid.uuid4()]
        sent = [one.send(state, [gpu], ref) for state, gpu, ref in ((BATCH, 0, refs[0]), (TRAINING, 1, refs[1]))]
        told = [await one.site.finish_state(each) for each in sent]
        assert [[len(part) for part in each] for each in told] == [[0, 1], [0, 1]]
        assert all(one.book.telling_of(str(ref), 0) for ref in refs)
        one.server.cluster.set_node("node-0")
        await one.settle(BATCH, TRAINING, *[IDLE] * 6)
        await until(lambda: not any(one.book.telling_of(str(ref), 0) for ref in refs), "nobody is told any more")
        assert not any(one.book.failed_of(str(ref), 0) for ref in refs)
        one.server.cluster.set_node("node-0", is_cordoned=True)
        await until(lambda: one.site._nodes.objects["node-0"].is_cordoned, "it is seen")
        late = uuid.uuid4()
        assert await one.tell(BATCH, [2], ref=late) == ([], [2])
        assert one.book.not_now_of(str(late), 0) == {FIRST_GPU + 2}
        one.book.end(str(late), 0)
        one.server.cluster.set_node("node-0")
        await until(lambda: not one.book.telling_of(str(late), 0), "it was judged: its work may have a place elsewhere")
        assert 2 not in one.jobs()


async def test_work_that_a_command_names_is_a_job_of_its_own(rig):
    async with rig() as one:
        await one.tell(BATCH, [0], work=WorkloadSpec("llama", 16.0, "cold", 1, "job-1", "s3://ckpt/1"))
        await one.settle(BATCH, *[IDLE] * 7)
        (job,) = one.server.store.all("jobs")
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert {"name": "WORK_CHECKPOINT", "value": "s3://ckpt/1"} in container["env"]
        assert container["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
        await one.tell(BATCH, [0], work=WorkloadSpec("llama", 16.0, "cold", 1, "job-2"))
        await one.until(lambda: one.book.outcomes() == [Outcome.SWITCHED], "another one's")
        assert sorted(one.jobs()[0]) == [(BATCH, False), (BATCH, True)]
        await one.until(lambda: one.book.kept, "its pod has said what it kept")
        [kept] = one.book.kept
        assert (kept.workload_id, kept.slots, kept.problem) == ("job-1", (FIRST_GPU,), "")
        assert kept.checkpoint.startswith("job-1/"), "under the engine's name"
        await one.tell(BATCH, [0], work=WorkloadSpec("llama", 16.0, "cold", 1, "job-1", kept.checkpoint))
        await one.until(lambda: len(one.book.outcomes()) == 2, "the first goes on")
        containers = [job["spec"]["template"]["spec"]["containers"][0] for job in one.server.store.all("jobs")]
        told = [entry["value"] for one in containers for entry in one["env"] if entry["name"] == "WORK_CHECKPOINT"]
        assert told == [kept.checkpoint], "from there"


@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        (lambda troubles: troubles.keeps_nothing.update(training="no space left"), "no space left"),
        (lambda troubles: troubles.killed.add("training"), "gone before anybody had read"),
        (lambda troubles: troubles.nameless.add("training"), "named no checkpoint"),
    ],
)
async def test_work_whose_pods_keep_nothing_or_do_not_say_so_is_told_as_lost(rig, trouble, problem):
    async with rig() as one:
        trouble(one.server.troubles)
        await one.tell(TRAINING, [0], work=WorkloadSpec("llama", 16.0, "cold", 1, "job-1"))
        await one.tell(TRAINING, [1], work=WorkloadSpec())
        await one.settle(TRAINING, TRAINING, *[IDLE] * 6)
        await one.tell(IDLE, [0, 1])
        await one.until(lambda: one.book.kept, "it is told")
        [told] = one.book.kept
        assert (told.workload_id, told.checkpoint) == ("job-1", ""), "nobody's work is told by nobody"
        assert problem in told.problem


async def test_pods_that_can_not_run_their_work_say_so_and_it_is_not_the_devices_fault(rig):
    ref, work = uuid.uuid4(), WorkloadSpec("m", 16.0, "cold", 1, "job-1")
    async with rig() as one:
        one.server.troubles.unfit["training"] = "s3://torn can't be read"
        await one.run(BATCH, [0])
        assert await one.tell(TRAINING, [0, 1], ref=ref, work=work) == ([0, 1], [])
        await one.until(lambda: len(one.book.unfit_of(str(ref), 0)) == 2, "both have said so")
        assert set(one.book.unfit_of(str(ref), 0).values()) == {"s3://torn can't be read"}
        await one.until(lambda: Outcome.ROLLED_BACK in one.book.outcomes(), "what ran before runs again")
        await one.settle(BATCH, *[IDLE] * 7)
        await one.until(lambda: one.jobs()[1] == [(TRAINING, True)], "and it is started no more")


async def test_who_comes_back_hears_what_pods_say_that_were_ending(rig):
    async with rig() as one:
        await one.tell(TRAINING, [0], work=WorkloadSpec("llama", 16.0, "cold", 1, "job-1"))
        await one.settle(TRAINING, *[IDLE] * 7)
        sent = one.send(IDLE, [0])
        await until(sent.done, "it is suspended")
        await one.site.close()
        assert one.book.kept == []
        await one.site.connect(POLL_MS)
        await one.until(lambda: one.book.kept, "it is told")
        assert one.book.kept[0].checkpoint.startswith("job-1/")


async def test_what_is_suspended_resumed_and_suspended_again_tells_what_it_kept_at_last(rig):
    work = WorkloadSpec("llama", 16.0, "cold", 1, "job-1")
    async with rig() as one:
        await one.tell(TRAINING, [0], work=work)
        await one.settle(TRAINING, *[IDLE] * 7)
        following, told = one.site._keeping._following, []
        await one.tell(IDLE, [0])
        [name], [first] = following, list(following.values())
        first.add_done_callback(lambda task: told.append(task.cancelled()))
        pods = one.server.cluster.pods_of
        await one.tell(TRAINING, [0], work=work)
        await one.until(lambda: [pod.phase for pod in pods(name)] == ["ready"], "another pod runs")
        [last] = pods(name)
        await one.tell(IDLE, [0])
        assert following[name] is not first, "its time begins anew"
        await one.until(lambda: one.book.kept, "it is told")
        assert (told, [kept.checkpoint for kept in one.book.kept]) == ([True], [f"job-1/{last.name}"])
        assert (following, one.site._keeping._gone) == ({}, {})


async def test_a_server_that_nobody_vouches_for_gets_no_token(rig, tmp_path):
    (tmp_path / "other").mkdir()
    make_authority(tmp_path / "other")
    async with rig(is_connected=False, trusts="other/ca.crt") as one:
        with pytest.raises(DeviceUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            await one.site.connect(POLL_MS)
        assert one.server.api.calls == []


async def test_a_lost_connection_is_taken_up_again_with_what_runs(rig):
    async with rig() as one:
        await one.run(BATCH, [3])
        await one.site.close()
        assert one.site.devices == 0
        with pytest.raises(DeviceUnreachableError, match="not connected"):
            one.send(IDLE, [3])
        await one.site.connect(POLL_MS)
        assert (await one.site.read_states())[FIRST_GPU + 3] == BATCH


async def test_a_switch_that_was_interrupted_goes_on_when_its_command_is_told_again(rig):
    ref = uuid.uuid4()
    async with rig() as one:
        await one.run(BATCH, [0])
        assert await one.tell(TRAINING, [0], ref=ref) == ([0], [])
        await one.site.close()
        assert [word.stage for word in one.book.words] == ["forward"]
        await one.site.connect(POLL_MS)
        assert await one.tell(TRAINING, [0], ref=ref) == ([0], [])
        await one.until(lambda: one.book.outcomes() == [Outcome.SWITCHED], "it is over")
        assert sorted(one.jobs()[0]) == [(BATCH, True), (TRAINING, False)]


async def test_a_server_that_forgets_each_list_is_given_up_and_not_hammered(rig):
    async with rig(is_connected=False) as one:
        one.server.troubles.fail_lists = [410] * 40
        with pytest.raises(DeviceReplyError, match="status 410 at each of 5 lists"):
            await one.site.connect(POLL_MS)
        assert len(one.server.api.calls) <= 3 * mirror.LISTS
        one.server.troubles.fail_lists = [410]
        await one.site.connect(POLL_MS)


async def test_a_watch_that_is_refused_for_its_age_lists_anew_after_a_pause(rig, monkeypatch):
    pauses = []

    async def pause(tries):
        pauses.append(tries)
        await asyncio.sleep(0)

    async with rig() as one:
        monkeypatch.setattr(mirror, "_pause", pause)
        nodes = mirror.Mirror(one.site._transport, NODES_PATH, {}, codec.decode_node, lambda node: node.name)
        await nodes.load()
        one.server.cluster.set_node("node-0", is_cordoned=True)
        one.server.store.compact()
        following = asyncio.create_task(nodes.follow())
        await until(lambda: nodes.objects["node-0"].is_cordoned, "listed anew")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert pauses[0] == 0


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # an earlier test's connection is collected here
async def test_jobs_at_rest_that_nobody_resumes_are_deleted_and_those_that_run_stay(rig):
    async with rig(jobs_kept_s=0.2) as one:
        await one.run(BATCH, [0, 1])
        await one.tell(IDLE, [0])
        await one.until(lambda: 0 not in one.jobs(), "the one at rest is gone")
        assert one.jobs() == {1: [(BATCH, False)]}
        await until(lambda: len(one.site._jobs.objects) == 1, "and forgotten")
        assert await one.tell(BATCH, [0]) == ([0], []), "made anew where it is wanted after all"
        await one.settle(BATCH, BATCH, *[IDLE] * 6)


async def test_what_a_switch_may_go_back_to_is_kept_and_so_is_what_somebody_else_resumed(rig):
    async with rig(jobs_kept_s=0.05) as one:
        one.server.troubles.never_ready.add("training")
        await one.run(BATCH, [0])
        await one.tell(TRAINING, [0])
        await until(lambda: any(job.is_at_rest for job in one.site._jobs.objects.values()), "its pods have ended")
        looked = one.site._sweeper._sweep
        await looked()
        await asyncio.sleep(0.06)
        await looked()
        assert sorted(one.jobs()[0]) == [(BATCH, True), (TRAINING, False)]
        (resting,) = (job for job in one.site._jobs.objects.values() if job.is_at_rest)
        assert not await one.site._slot_jobs.delete_at_rest(replace(resting, version="1")), "another version by now"
        assert (BATCH, True) in one.jobs()[0]


def test_a_pod_has_no_rights_in_the_cluster_nor_on_its_node():
    for image in (codec.Image("registry.local/work:1"), codec.Image("registry.local/work:1", user=1000)):
        job = codec.encode_job("one", 7, TRAINING, "node-0", image, WorkloadSpec(gpus_each=1))
        pod = job["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        own = {} if image.user is None else {"runAsUser": 1000}
        seccomp = {"seccompProfile": {"type": "RuntimeDefault"}}
        assert pod["securityContext"] == {"runAsNonRoot": True, **seccomp, **own}
        restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert [one["securityContext"] for one in pod["containers"]] == [restricted]


# -- shapes, as the API reference describes them ------------------------------------------------------------------------

JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {
        "name": "hcp-7-training-0a1b2c3d", "namespace": "hcp", "uid": "1c9d", "resourceVersion": "90211", "generation": 3,
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"hcp.local/facility": "nor-1", "hcp.local/slot": "7", "hcp.local/state": "6"},
        "annotations": {"hcp.local/work": "job-1"},
        "managedFields": [{"manager": "hcp-edge", "operation": "Update"}],
    },
    "spec": {
        "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": True,
        "podReplacementPolicy": "TerminatingOrFailed", "selector": {"matchLabels": {"controller-uid": "1c9d"}},
        "template": {"metadata": {}, "spec": {"containers": []}},
    },
    "status": {
        "conditions": [{
            "type": "Suspended", "status": "True", "lastProbeTime": "2026-01-02T03:05:00Z",
            "lastTransitionTime": "2026-01-02T03:05:00Z", "reason": "JobSuspended", "message": "Job suspended",
        }],
        "terminating": 1, "uncountedTerminatedPods": {},
    },
}  # fmt: skip


def with_(body, **status):
    return body | {"status": status}


def test_jobs_as_the_reference_has_them():
    job = codec.decode_job(JOB)
    assert (job.slot, job.state, job.is_suspended, job.is_running, job.work) == (7, TRAINING, True, False, "job-1")
    running = with_(JOB, active=1, ready=1, startTime="2026-01-02T03:06:00Z") | {"spec": {"suspend": False}}
    assert (codec.decode_job(running).ready, codec.decode_job(running).is_running) == (1, True)
    failed = with_(
        running, failed=7, conditions=[{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]
    )
    assert (codec.decode_job(failed).ended, codec.decode_job(failed).is_running) == ("Failed", False)
    assert codec.decode_job(JOB | {"metadata": JOB["metadata"] | {"labels": {"app": "somebody-elses"}}}) is None


POD = {
    "metadata": {
        "name": "hcp-7-training-0a1b2c3d-x7k2p", "namespace": "hcp", "uid": "77aa", "resourceVersion": "90300",
        "labels": {"batch.kubernetes.io/job-name": "hcp-7-training-0a1b2c3d", "hcp.local/facility": "nor-1"},
        "finalizers": ["batch.kubernetes.io/job-tracking"], "deletionTimestamp": "2026-01-02T03:08:00Z",
    },
    "spec": {"containers": [{"name": "work", "terminationMessagePath": "/dev/termination-log"}]},
    "status": {"phase": "Running", "qosClass": "BestEffort"},
}  # fmt: skip


def terminated(message=None, reason="Completed", code=0, name="work"):
    said = {"exitCode": code, "reason": reason, "startedAt": "x", "finishedAt": "y", "containerID": "containerd://1"}
    state = {"terminated": said if message is None else said | {"message": message}}
    return {"name": name, "ready": False, "restartCount": 0, "image": "i", "imageID": "s", "state": state}


def test_pods_as_the_reference_has_them():
    pod = pods.decode_pod(POD)
    assert (pod.name, pod.job, pod.ended) == (POD["metadata"]["name"], "hcp-7-training-0a1b2c3d", None)
    running = with_(
        POD, phase="Running", containerStatuses=[{"name": "work", "state": {"running": {"startedAt": "x"}}}]
    )
    assert pods.decode_pod(running).ended is None

    def ended(*statuses, phase="Succeeded", **more):
        return pods.decode_pod(with_(POD, phase=phase, containerStatuses=list(statuses), **more)).ended

    assert ended(terminated('{"checkpoint": "s3://c/7"}')) == pods.Ended("s3://c/7")
    assert ended(terminated('{"checkpoint": ""}')) == pods.Ended(""), "kept, and nothing to go on from"
    assert ended(terminated('{"problem": "disk full"}', "Error", 1)).problem == "disk full"
    assert ended(terminated("", "OOMKilled", 137)).problem.endswith("OOMKilled")
    assert ended(terminated(None, "", 143)).problem.endswith("exit code 143")
    for odd in ("[1]", "no json", '{"checkpoint": 7}', '{"checkpoint": "a\\nb"}', "[" * 5000):
        assert ended(terminated(odd)).problem, odd
    crashed = {"name": "work", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    crashed["lastState"] = terminated('{"unfit": "no such model"}', "Error", 1)["state"]
    again = pods.decode_pod(with_(POD, phase="Running", containerStatuses=[crashed]))
    assert (again.ended, again.unfit) == (None, "no such model")
    gone = pods.decode_pod(with_(POD, phase="Failed", containerStatuses=[terminated('{"unfit": "no such model"}')]))
    assert (gone.ended.problem, gone.unfit) == ("no such model", "no such model")
    assert gone.ended_at == "y"
    evicted = ended(phase="Failed", reason="Evicted")
    assert evicted.problem == "its pod ended: Evicted"
    assert ended(terminated("x", name="sidecar"), phase="Running") is None
    assert pods.decode_pod(POD | {"metadata": {"name": "other", "resourceVersion": "1"}}) is None
    with pytest.raises(DeviceReplyError, match="a Pod"):
        pods.decode_pod({"metadata": {"name": "other"}})


def test_nodes_as_the_reference_has_them():
    node = {
        "metadata": {"name": "gpu-1", "resourceVersion": "7", "labels": {"nvidia.com/gpu.product": "H100"}},
        "spec": {"podCIDR": "10.1.0.0/24", "unschedulable": True, "taints": [{"key": "x", "effect": "NoSchedule"}]},
        "status": {
            "addresses": [{"type": "Hostname", "address": "gpu-1"}, {"type": "InternalIP", "address": "10.0.0.7"}],
            "conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
        },
    }
    assert codec.decode_node(node) == codec.KubeNode("gpu-1", ("10.0.0.7",), is_ready=True, is_cordoned=True)
    assert not codec.decode_node({"metadata": node["metadata"]}).is_ready


@pytest.mark.parametrize(
    ("decode", "body"),
    [
        (codec.decode_job, {"metadata": {"name": "a"}, "spec": {}}),
        (codec.decode_job, JOB | {"spec": {"suspend": "yes, please"}}),
        (codec.decode_job, {}),
        (codec.decode_node, {"metadata": 3}),
        (codec.decode_page, {"items": []}),
        (codec.version_of, {"metadata": {}}),
        (codec.version_of, {"metadata": []}),
    ],
)
def test_what_makes_no_sense_is_reported(decode, body):
    with pytest.raises(DeviceReplyError):
        decode(body)


def test_a_slot_that_is_no_number_is_nobodys():
    for wrong in ("", "x", "-1", "9" * 40, "²"):
        labels = JOB["metadata"]["labels"] | {"hcp.local/slot": wrong}
        assert codec.decode_job(JOB | {"metadata": JOB["metadata"] | {"labels": labels}}) is None


async def test_a_server_that_never_shakes_hands_is_given_up_and_let_go_of(tmp_path):
    is_gone = asyncio.Event()

    async def listen(reader, writer):
        await reader.read()
        writer.close()
        is_gone.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        (tmp_path / "token").write_text("t-1")
        (tmp_path / "token").chmod(0o600)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        transport = ApiTransport(url, None, TokenFile(tmp_path / "token"), 0.6, 1)
        transport.open()
        with pytest.raises(DeviceUnreachableError, match="ConnectTimeout") as raised:
            await transport.call("GET", "/api")
        await asyncio.wait_for(is_gone.wait(), 10)
        assert raised.value.__cause__ is not None, "not as garbage, which what went wrong still holds"
        await transport.close()


async def test_a_server_that_hangs_is_given_up(rig, caplog):
    async with rig() as one:
        one.site._transport._within_s, one.server.troubles.latency_s = 0.2, 0.5
        began_s = asyncio.get_running_loop().time()
        assert await one.tell(BATCH, [0]) == ([], [0])
        assert asyncio.get_running_loop().time() - began_s < 5, "each call has its deadline"
        one.server.troubles.latency_s = 0.0
    assert "Exception in ASGI application" not in caplog.text, "who has left is no defect of the server's"
