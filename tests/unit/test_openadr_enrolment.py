"""The enrolment's file: what is read, and that errors name file, field and remedy."""

import pytest
import yaml

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.feed.enrolment import load_enrolment
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor.configuration import _grid_server

GOOD = {
    "version": 1,
    "vtn_url": "world",
    "resources": {"METER-1": "hou-1"},
    "programmes": {
        "http://u/dr": {"means": "response", "facilities": ["hou-1"]},
        "http://u/ecrs": {"means": "deployment", "name": "ECRS", "facilities": ["dal-2", "hou-1"]},
    },
}


def written(folder, **changes):
    path = folder / "openadr.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return path


def test_facilities_and_what_the_server_calls_them(tmp_path):
    enrolment = load_enrolment(written(tmp_path))
    assert enrolment.facilities == ("dal-2", "hou-1")
    assert enrolment.facility_of == {"dal-2": "dal-2", "hou-1": "hou-1", "METER-1": "hou-1"}
    assert [enrolment.resource_of(facility) for facility in enrolment.facilities] == ["dal-2", "METER-1"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vtn_url": "ftp://x"}, "vtn_url"),
        ({"vtn_url": "http://vtn.example/x"}, "in clear"),
        ({"vtn_url": "http://127.0.0.1.vtn.example/x"}, "in clear"),
        ({"vtn_url": "http://127.0.0.1:80@vtn.example/x"}, "in clear"),
        ({"vtn_url": "http://localhost.vtn.example/x"}, "in clear"),
        ({"certificate": "/a.crt"}, "certificate and key belong together"),
        ({"protocol": "3.1"}, "3.1 needs client_secret_file"),
        ({"programmes": {}}, "programmes"),
        ({"programmes": {"x": {"means": "response", "facilities": []}}}, "programmes.x.facilities"),
        ({"polls": 3}, "polls"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, changes, said):
    path = written(tmp_path, **changes)
    with pytest.raises(ConfigError, match=said) as error:
        load_enrolment(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("url", ["https://vtn.example/x", "http://127.0.0.1:8081/x", "http://localhost/x", "world"])
def test_a_server_is_asked_over_tls_or_on_this_machine(tmp_path, url):
    assert load_enrolment(written(tmp_path, vtn_url=url)).vtn_url == url


@pytest.mark.parametrize("text", ["[1", "- 1\n", "[" * 5000, ""])
def test_what_is_no_enrolment_is_refused(tmp_path, text):
    path = tmp_path / "openadr.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=str(path)):
        load_enrolment(path)
    with pytest.raises(ConfigError, match="can't be read"):
        load_enrolment(tmp_path / "none.yaml")


def test_the_world_has_a_server_only_where_the_platform_is_enrolled_with_it(tmp_path):
    assert _grid_server(Settings(state_dir=tmp_path)) == {}
    assert _grid_server(Settings(state_dir=tmp_path, openadr_file=written(tmp_path, vtn_url="https://x/y"))) == {}
    server = _grid_server(Settings(state_dir=tmp_path, openadr_file=written(tmp_path)))
    assert server == {"openadr": {"enabled": True, "port": 0}}
