"""The file with a service account's token: whose modes and links are taken, and whose are not."""

import os

import pytest

from hcp_pipelines.devices.kubernetes.token import TokenFile
from hcp_pipelines.domain.errors import ConfigError, DeviceUnreachableError


def said_of(path) -> str:
    """Why a file is not taken; both ways of asking agree."""
    with pytest.raises(ConfigError) as at_start:
        TokenFile(path).check()
    with pytest.raises(DeviceUnreachableError) as later:
        TokenFile(path).read()
    assert str(at_start.value) == str(later.value)
    return str(later.value)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "token"
    path.write_text("t-1\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A volume as a kubelet writes it; mounting one takes rights that tests do not have, so that it is only said to be one."""
    volume = tmp_path / "serviceaccount"
    volume.mkdir()
    volume.chmod(0o1777)
    turn(volume, "..2026_01_02_03_04_05.1", "t-1")
    (volume / "token").symlink_to("..data/token")
    monkeypatch.setattr(os.path, "ismount", lambda path: path == volume)
    return volume / "token"


def turn(volume, version, token):
    """Write a version, and turn the link to it."""
    (volume / version).mkdir(mode=0o755)
    (volume / version / "token").write_text(token)
    (volume / version / "token").chmod(0o644)
    (volume / "..new").symlink_to(version)
    (volume / "..new").rename(volume / "..data")


def test_a_file_of_our_own_is_closed_to_others(own):
    TokenFile(own).check()
    assert TokenFile(own).read().get_secret_value() == "t-1"
    for mode, words in ((0o640, "read"), (0o604, "read"), (0o620, "change"), (0o602, "change")):
        own.chmod(mode)
        assert f"others may {words} it; chmod 600" in said_of(own)


def test_a_projected_token_may_be_read_by_all_in_its_pod_and_is_rotated(mounted):
    TokenFile(mounted).check()
    assert TokenFile(mounted).read().get_secret_value() == "t-1"
    turn(mounted.parent, "..2026_01_02_04_04_05.2", "t-2")
    assert TokenFile(mounted).read().get_secret_value() == "t-2"


def test_a_projected_token_that_others_may_change_is_not_taken(mounted):
    volume = mounted.parent
    version = volume / (volume / "..data").readlink()
    (version / "token").chmod(0o664)
    assert "others may change it" in said_of(mounted)
    (version / "token").chmod(0o644)
    version.chmod(0o777)
    assert "others may put another file" in said_of(mounted)
    version.chmod(0o755)
    volume.chmod(0o777)
    assert "others may put another file" in said_of(mounted)


def test_links_that_lead_elsewhere_are_not_followed(mounted, own, monkeypatch):
    volume = mounted.parent
    (own.parent / "link").symlink_to(own)
    assert "name the file itself" in said_of(own.parent / "link")
    version = volume / (volume / "..data").readlink()
    (version / "token").unlink()
    (version / "token").symlink_to(own)
    assert "symbolic links" in said_of(mounted)
    for target in ("..", "../elsewhere", str(own.parent), "plain"):
        (volume / "..data").unlink()
        (volume / "..data").symlink_to(target)
        assert "leads out of" in said_of(mounted)
    monkeypatch.undo()
    assert "is no mount" in said_of(mounted)


def test_what_holds_no_token_is_not_taken(own, tmp_path):
    own.write_text(" \n")
    assert "no token in it" in said_of(own)
    own.write_bytes(b"\xff\xfe")
    assert "decode" in said_of(own)
    own.unlink()
    assert "No such file" in said_of(own)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    assert "not a file" in said_of(folder)
