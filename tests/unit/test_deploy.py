"""deploy/: what can be held against real contracts without a container runtime or a cluster. Nothing here starts a container."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from dagster._config import process_config
from dagster_k8s.launcher import K8sRunLauncher
from dagster_k8s.models import k8s_model_from_dict
from kubernetes import client

from hcp_pipelines.api.service import refuse_open
from hcp_pipelines.api.tokens import SigningKeys
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.operators.api_keys import pepper
from hcp_pipelines.settings import Settings, refuse_unknown_names
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor import elsewhere
from tests.support.helm import render

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("hcp:")}
VALUES = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
MODELS = {
    "ConfigMap": client.V1ConfigMap, "Deployment": client.V1Deployment, "Job": client.V1Job, "Role": client.V1Role,
    "NetworkPolicy": client.V1NetworkPolicy, "PodDisruptionBudget": client.V1PodDisruptionBudget, "Service": client.V1Service,
    "RoleBinding": client.V1RoleBinding, "ServiceAccount": client.V1ServiceAccount, "StatefulSet": client.V1StatefulSet,
}  # fmt: skip
SERVICE_WORDS = set(
    """cap_add cap_drop command depends_on entrypoint environment healthcheck image init logging network_mode networks ports
    read_only restart secrets security_opt shm_size stop_grace_period tmpfs user volumes""".split()  # noqa: SIM905 - a list of names
)
of_each = pytest.mark.parametrize("name", SERVICES)
of_our_own = pytest.mark.parametrize("name", OURS)
LEFT_OUT = {"fleet"}  # discovery is for gateways of this machine


def secrets_of(service):
    return {one if isinstance(one, str) else one["source"] for one in service.get("secrets", ())}


def networks_of(service):
    shared = service.get("network_mode", "").removeprefix("service:")
    return set(service.get("networks", ())) | (networks_of(SERVICES[shared]) if shared else set())


@of_each
def test_a_service_uses_words_of_compose_and_names_what_there_is(name):
    service = SERVICES[name]
    assert set(service) <= SERVICE_WORDS
    assert secrets_of(service) <= set(COMPOSE["secrets"])
    assert networks_of(service) <= set(COMPOSE["networks"])
    for other, how in service.get("depends_on", {}).items():
        assert how["condition"] in ("service_healthy", "service_completed_successfully")
        assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
    for volume in service.get("volumes", ()):
        assert volume.startswith(("./", "$")) or volume.split(":")[0] in COMPOSE["volumes"]


@of_each
def test_a_service_has_no_more_rights_than_it_needs(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[\w./-]+:\d[\w.-]*\d[\w.-]*", service["image"]), "a tag that stays"
    assert not service.get("user", "").startswith("0")
    assert "user" in service or name == "postgres", (
        "its image begins as root to own its folder, and goes on as postgres"
    )


def test_only_the_proxy_is_published_and_to_this_machine_unless_told():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert SERVICES["proxy"]["ports"] == [
        "${UI_ADDRESS:-127.0.0.1:8443}:8443", "${API_ADDRESS:-127.0.0.1:8444}:8444",
    ]  # fmt: skip
    assert [name for name, network in COMPOSE["networks"].items() if network == {"internal": True}] == ["data", "sites"]
    assert {name for name in SERVICES if "front" in networks_of(SERVICES[name])} == {
        "proxy", "dagster-webserver", "dagster-daemon", "tick-launcher",
    }  # fmt: skip


def test_the_api_has_tls_of_its_own_and_believes_the_proxy_alone():
    api = Settings(**{k.removeprefix("HCP_").lower(): v for k, v in SERVICES["api"]["environment"].items()})
    with pytest.raises(ConfigError, match="HCP_API_CERTIFICATE_FILE"):
        refuse_open(api.model_copy(update={"api_certificate_file": None, "api_certificate_key_file": None}), "0.0.0.0")
    assert {name for name in SERVICES if "api" in networks_of(SERVICES[name])} == {
        "api", "proxy", "dagster-webserver", "dagster-daemon", "tick-launcher",
    }  # fmt: skip
    assert COMPOSE["networks"]["api"]["ipam"]["config"] == [{"subnet": api.api_trusted_proxies}]
    caddy = (DEPLOY / "compose" / "Caddyfile").read_text()
    assert "reverse_proxy https://api:8080" in caddy
    assert {"/run/secrets/" + name for name in secrets_of(SERVICES["proxy"])} <= set(
        re.findall(r"/run/secrets/\S+", caddy)
    )


def test_a_secret_is_read_as_container_platforms_mount_it(tmp_path):
    mounted = tmp_path / "mounted"
    (mounted / "..data").mkdir(parents=True)
    for name, load in (("api_signing_keys", SigningKeys.load), ("api_keys_pepper", pepper)):
        (mounted / "..data" / name).write_text("0" * 64)
        (mounted / name).symlink_to(Path("..data") / name)
        settings = Settings(state_dir=tmp_path / "state", secrets_dir=mounted)
        load(settings)
        (mounted / name).unlink()
        (tmp_path / "elsewhere").write_text("0" * 64)
        (mounted / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ConfigError, match="leads out of HCP_SECRETS_DIR"):
            load(settings)


def test_it_does_not_start_without_secrets_and_holds_none():
    assert all(one["file"].startswith("${SECRETS_DIR:?") for one in COMPOSE["secrets"].values())
    told = [value for service in SERVICES.values() for value in service.get("environment", {}).items()]
    named = [(key, value) for key, value in told if re.search("PASSWORD|SECRET|TOKEN", key)]
    assert all(value.startswith("/run/secrets") for _, value in named)


def test_the_script_makes_every_secret_that_is_not_a_certificate(tmp_path):
    script = DEPLOY / "compose" / "make-secrets.sh"
    subprocess.run(["sh", script, tmp_path / "made"], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    by_hand = {"proxy_users", *(name for name in COMPOSE["secrets"] if name.endswith((".crt", ".key")))}
    assert set(made) == set(COMPOSE["secrets"]) - by_hand
    assert set(Role) <= set(made)
    assert len({made[role] for role in Role}) == len(Role)
    assert min(len(text) for text in made.values()) >= 40
    assert subprocess.run(["sh", script, tmp_path / "made"], capture_output=True).returncode != 0, "never over old ones"


@of_our_own
def test_a_service_is_a_process_of_the_platform_and_has_settings(name):
    service = OURS[name]
    refuse_unknown_names(service["environment"])
    fields = {key.removeprefix("HCP_").lower(): value for key, value in service["environment"].items()}
    Settings(**fields)
    files = [value for key, value in service["environment"].items() if key.endswith("_FILE")]
    needed = {value.removeprefix("/run/secrets/") for value in files}
    lake = {"lake_s3_secret", "celery_broker"}  # read only by who needs them
    assert needed - lake <= secrets_of(service)
    if service["command"][0] == "run":
        assert service["command"][1] in elsewhere.names()
        assert service["healthcheck"]["test"] == ["CMD", "hcp", "healthy", service["command"][1]]


def test_every_process_of_the_platform_has_a_service():
    started = {service["command"][1] for service in OURS.values() if service["command"][0] == "run"}
    assert started == set(elsewhere.names()) - LEFT_OUT
    assert len([1 for service in OURS.values() if service["command"] == ["run", "celery-worker"]]) == 2


@pytest.mark.parametrize("name", ["feed", "alerts", "allocator-a", "collector", "gateway-1", "api", "scheduler-1"])
def test_a_daemon_has_the_passwords_of_its_own_role_alone(name):
    roles = secrets_of(SERVICES[name]) & {role.value for role in Role}
    wanted = {
        "feed": {"hcp_feed"}, "alerts": {"hcp_operator"}, "allocator-a": {"hcp_allocator"}, "gateway-1": set(),
        "scheduler-1": {"hcp_scheduler"}, "api": {"hcp_api", "hcp_scheduler"},
    }  # fmt: skip
    assert roles == wanted.get(name, {"hcp_collector", "lake_writer"})


def test_the_image_is_made_from_the_lock_and_is_not_roots():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    text = "\n".join(lines)
    froms = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert froms == ["python:3.11.14-slim-trixie"] * 2
    assert text.count("--require-hashes") == 2
    assert "\nUSER 10001:10001\n" in text
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line]
    assert all((DEPLOY.parent / path).exists() for group in copied for path in group)
    allowed = {line[1:] for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {path.split("/")[0] for group in copied for path in group} <= allowed


def rendered(**changed):
    values = VALUES | {"databaseUrl": "postgresql://db.example:5432/postgres", "lakeUrl": "s3://lake/hcp"} | changed
    root = {"Values": values, "Release": {"Name": "hcp", "Namespace": "power"}}
    texts = [render(path, root) for path in sorted((DEPLOY / "helm" / "templates").glob("*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


@pytest.mark.parametrize("executor", ["k8s", "celery"])
def test_the_chart_makes_objects_that_kubernetes_knows(executor):
    documents = rendered(executor=executor, lakeKeyId="key", lakeEndpoint="https://store:9000")
    for document in documents:
        model = MODELS[document["kind"]]
        k8s_model_from_dict(model, _snake(model, document))
    assert len({(d["kind"], d["metadata"]["name"]) for d in documents}) == len(documents)


def _snake(model, given):
    """By the names that the client's models have; a word that they don't know is an error."""
    names = {theirs: ours for ours, theirs in model.attribute_map.items()}
    unknown = set(given) - set(names)
    assert not unknown, f"{model.__name__}: {unknown}"
    out = {}
    for key, value in given.items():
        kind = model.openapi_types[names[key]]
        inner = getattr(client, re.sub(r"^list\[(.*)\]$|^dict\(str, (.*)\)$", r"\1\2", kind), None)
        if inner is None:
            out[names[key]] = value
        elif kind.startswith("list["):
            out[names[key]] = [_snake(inner, one) for one in value]
        elif kind.startswith("dict("):
            out[names[key]] = {k: _snake(inner, one) for k, one in value.items()}
        else:
            out[names[key]] = _snake(inner, value)
    return out


def pods(documents):
    return {
        d["metadata"]["name"]: (d["spec"]["template"]["metadata"]["labels"], d["spec"]["template"]["spec"])
        for d in documents
        if d["kind"] in ("Deployment", "StatefulSet", "Job")
    }


def test_the_charts_pods_have_no_more_rights_than_they_need():
    for name, (_, spec) in pods(rendered(executor="celery")).items():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec.get("automountServiceAccountToken", True) is (name == "hcp-dagster")
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert "memory" in container["resources"]["limits"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted <= {volume["name"] for volume in spec["volumes"]} | {"state"}
            if name != "hcp-prepare":
                assert "readinessProbe" in container or "livenessProbe" in container


def test_the_chart_starts_the_platforms_processes():
    args = [c.get("args", []) for _, spec in pods(rendered(executor="celery")).values() for c in spec["containers"]]
    assert {one[1] for one in args if one[:1] == ["run"]} == set(elsewhere.names()) - LEFT_OUT


def test_the_charts_api_is_asked_over_tls_whether_it_lives_and_is_let_at_from_the_ingress_alone():
    documents = rendered(api=VALUES["api"] | {"from": "doors"})
    _, spec = pods(documents)["hcp-api"]
    [container] = spec["containers"]
    probes = {kind: container[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert {probe["scheme"] for probe in probes.values()} == {"HTTPS"}
    assert (probes["livenessProbe"]["path"], probes["readinessProbe"]["path"]) == ("/health", "/ready")
    told = {one["name"]: one["value"] for one in container["env"]}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(Path(told[f"HCP_API_CERTIFICATE{part}_FILE"]).parent) for part in ("", "_KEY")} <= mounts
    [policy] = [d for d in documents if (d["kind"], d["metadata"]["name"]) == ("NetworkPolicy", "hcp-api")]
    assert policy["spec"]["ingress"] == [
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "doors"}}}],
            "ports": [{"protocol": "TCP", "port": 8080}],
        }
    ]
    projected = next(volume for volume in spec["volumes"] if volume["name"] == "passwords")["projected"]["sources"]
    keys = {item["key"] for source in projected for item in source["secret"]["items"]}
    assert keys == {"hcp_api", "hcp_scheduler", "api_signing_keys", "api_keys_pepper"}


def test_the_charts_settings_are_settings():
    for document in rendered(executor="celery", lakeKeyId="key"):
        if document["kind"] == "ConfigMap":
            refuse_unknown_names(document["data"])
    for _, spec in pods(rendered()).values():
        for container in spec["containers"]:
            refuse_unknown_names({one["name"]: "" for one in container.get("env", ())})


def test_what_a_budget_or_policy_selects_is_there():
    documents = rendered(executor="celery")
    labels = [set(own.items()) for own, _ in pods(documents).values()]
    for document in documents:
        if document["kind"] in ("NetworkPolicy", "PodDisruptionBudget", "Service"):
            selector = document["spec"].get("podSelector") or document["spec"]["selector"]
            wanted = selector.get("matchLabels", selector if document["kind"] == "Service" else {})
            assert any(set(wanted.items()) <= own for own in labels), document["metadata"]["name"]


@pytest.mark.parametrize("missing", ["databaseUrl", "lakeUrl"])
def test_the_chart_is_not_rendered_without_what_it_needs(missing):
    with pytest.raises(ValueError, match=missing):
        rendered(**{missing: ""})


def test_the_run_launchers_configuration_is_one_that_it_takes(tmp_path):
    config = next(d for d in rendered() if d["metadata"]["name"] == "hcp-run-jobs")["data"]["k8s-run.yaml"]
    checked = process_config(K8sRunLauncher.config_type(), yaml.safe_load(config))
    assert checked.success, checked.errors
