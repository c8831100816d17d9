"""The Kubernetes driver in the gateway's file: what is made of it, and what is refused."""

import pytest
from pydantic import ValidationError

from hcp_pipelines.devices.switches import PHASE_WITHIN_S, Phase
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.drivers import make_site, period_of
from hcp_pipelines.wire.certificates import make_authority

LADDER = [{"state": 1, "power_kw": 0.4, "settle_s": 40}, {"state": 5, "power_kw": 1.3, "settle_s": 150}]


def facility(folder, **changes):
    driver = {
        "kind": "kubernetes", "api": "https://10.0.0.1:6443", "token_file": str(folder / "token"),
        "ca_file": str(folder / "ca.crt"), "images": {5: {"image": "registry.local/work:1"}},
    }  # fmt: skip
    group = {
        "group_id": "h100", "feeder_id": "f1", "first_slot": 0, "devices": 12, "pue": 1.1, "ladder": LADDER,
        "addresses": ["10.0.0.7-8"],
    }  # fmt: skip
    made = {k: v for k, v in (driver | changes.pop("driver", {})).items() if v is not None}
    document = {"facility_id": "f", "generation": 1, "driver": made, "groups": [group | changes]}
    return FacilityConfig.model_validate(document)


def made(config, folder):
    return make_site(config, folder, SystemClock(), 500, lambda _: None)


@pytest.fixture
def folder(tmp_path):
    make_authority(tmp_path)
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("t")
    return tmp_path


def test_a_site_is_made_of_it(folder):
    own = {"phase_within_s": {"start": 60.0}, "workloads": {5: {"model": "llama"}}}
    config = facility(folder, driver=own)
    site = made(config, folder)
    assert type(site).__name__ == "KubernetesSite"
    assert site._options.phase_within_s == {**PHASE_WITHIN_S, Phase.START: 60.0}
    assert site._options.workloads[DeviceState.INFERENCE_BATCH].model == "llama"
    assert period_of(config, 500, 1.0) == 30_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"driver": {"api": "http://10.0.0.1:6443"}}, "api"),
        ({"driver": {"images": {}}}, "images"),
        ({"driver": {"images": {3: {"image": "a"}}}}, "images"),
        ({"driver": {"namespace": "Not_A_Label"}}, "namespace"),
        ({"driver": {"token_file": None}}, "token_file"),
        ({"driver": {"workloads": {5: {"gpus_each": 2}}}}, "gpus_each is 1"),
        ({"driver": {"phase_within_s": {"start": 0}}}, "phase_within_s"),
        ({"addresses": ["10.0.0.7"]}, "12 GPUs in 2 nodes and 1 addresses"),
        ({"ladder": [*LADDER, {"state": 3, "power_kw": 3.5, "settle_s": 1}]}, "has no state"),
        ({"discovery": {}}, "Extra inputs"),
    ],
)
def test_a_mistake_is_named(folder, changes, words):
    with pytest.raises(ValidationError, match=words):
        facility(folder, **changes)


def test_files_that_can_not_be_used_are_named(folder):
    (folder / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        made(facility(folder), folder)
    (folder / "token").chmod(0o600)
    (folder / "ca.crt").write_text("not a certificate")
    with pytest.raises(ConfigError, match="ca_file"):
        made(facility(folder), folder)
    with pytest.raises(ConfigError, match="ca_file"):
        made(facility(folder, driver={"ca_file": str(folder / "gone")}), folder)
