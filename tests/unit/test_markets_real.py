"""The file of accounts at the real services: what it says, what is wrong with it, and that no secret is told."""

import pytest

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.markets.real import load_services, services_of
from hcp_pipelines.settings import Settings

CLOCK = SystemClock()
ERCOT = "ercot: {username: ann, password_file: secrets/ercot, subscription_key_file: secrets/key}"
AMAZON = "aws: {key_id: AKID, secret_key_file: secrets/aws}"


def written(tmp_path, *lines):
    (tmp_path / "secrets").mkdir(exist_ok=True)
    for name in ("ercot", "key", "aws"):
        (tmp_path / "secrets" / name).write_text(f"hush-{name}\n")
    path = tmp_path / "markets.yaml"
    path.write_text("\n".join(("version: 1", *lines)))
    return path


def test_services_have_their_published_addresses_and_only_accounts_are_asked_for(tmp_path):
    services = load_services(written(tmp_path, ERCOT, AMAZON))
    ercot = services.market("ercot", CLOCK)
    assert ercot.base_url == "https://api.ercot.com"
    assert services.market("kraken", CLOCK) == ("https://api.kraken.com", None)
    assert services.market("gpu_listings", CLOCK) is None
    ec2, prices = services.amazon("eu-west-1", CLOCK)
    assert (ec2.base_url, prices.base_url) == (
        "https://ec2.eu-west-1.amazonaws.com",
        "https://api.pricing.us-east-1.amazonaws.com",
    )
    assert services.microsoft(CLOCK) is None
    assert services.missing() == ["primeintellect (GPU rates)", "azure (Azure's capacity)"]
    assert "hush" not in repr(services) + repr(ercot)


def test_the_simulated_world_wants_no_file_and_the_real_one_says_what_belongs_into_it(tmp_path):
    assert services_of("sim", None) is None
    with pytest.raises(ConfigError, match=r"HCP_MARKETS_FILE is unset.*subscription key.*docs/markets\.md"):
        services_of("real", None)
    settings = Settings(state_dir=tmp_path, world="real", markets_file=written(tmp_path))
    assert services_of(settings.world, settings.markets_file).ercot is None


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["aws: {key_id: AKID}"], r"aws\.secret_key_file: Field required"),
        (["public: {kraken: http://api.kraken.com}"], r"public\.kraken: String should match"),
        (["public: {mtgox: https://x}"], r"public\.mtgox: Extra inputs"),
        (["ercot: [1"], "not YAML"),
        (["#" * 100_001], "the limit is 100000"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(tmp_path, lines, said):
    with pytest.raises(ConfigError, match=said):
        load_services(written(tmp_path, *lines))


@pytest.mark.parametrize(("text", "said"), [(None, "can't be read"), (" \n", "is empty")])
def test_a_secret_that_is_not_there_is_named(tmp_path, text, said):
    services = load_services(written(tmp_path, ERCOT))
    (tmp_path / "secrets" / "key").unlink()
    if text is not None:
        (tmp_path / "secrets" / "key").write_text(text)
    with pytest.raises(ConfigError, match=rf"ercot\.subscription_key_file: .*secrets/key {said}"):
        services.market("ercot", CLOCK)
    with pytest.raises(ConfigError, match=r"HCP_MARKETS_FILE=.*can't be read"):
        load_services(tmp_path / "nothing.yaml")
