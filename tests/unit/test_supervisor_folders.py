"""What `hcp up` puts on the disk is closed to other accounts, and is never put where another account could exchange it."""

import os
import stat

import pytest

from hcp_pipelines.cli import lifecycle
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings
from hcp_pipelines.supervisor import platform as platform_module
from hcp_pipelines.supervisor.folders import FOLDERS, prepare_folders
from hcp_pipelines.supervisor.platform import Platform


def modes(settings):
    return {name: stat.S_IMODE(settings.at(name).stat().st_mode) for name in FOLDERS}


def test_folders_are_closed_whatever_they_were_and_the_state_directory_is_left_alone(tmp_path):
    settings = Settings(state_dir=tmp_path / "state")
    settings.at("run").mkdir(parents=True)
    settings.at("run").chmod(0o777)
    settings.at().chmod(0o755)
    prepare_folders(settings)
    assert set(modes(settings).values()) == {0o700}
    assert stat.S_IMODE(settings.at().stat().st_mode) == 0o755


async def test_hcp_up_closes_them_before_it_writes_anything(tmp_path, monkeypatch):
    class StopHereError(Exception):
        pass

    def lock(path):
        assert list(path.parent.iterdir()) == []
        raise StopHereError

    monkeypatch.setattr(platform_module, "StateLock", lock)
    settings = Settings(state_dir=tmp_path / "state")
    with pytest.raises(StopHereError):
        await Platform(settings).run()
    assert set(modes(settings).values()) == {0o700}
    assert stat.S_IMODE(settings.at().stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_state_directory_that_others_may_write_is_refused(tmp_path, mode):
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    with pytest.raises(ConfigError, match="can be written by others: chmod go-w"):
        prepare_folders(Settings(state_dir=tmp_path / "state"))
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.parametrize("in_the_way", ["state", "state/run"])
def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path, in_the_way):
    (tmp_path / in_the_way).parent.mkdir(exist_ok=True)
    (tmp_path / in_the_way).touch()
    with pytest.raises(ConfigError, match=rf"{in_the_way} can't be made \(File exists\): take another --state-dir"):
        prepare_folders(Settings(state_dir=tmp_path / "state"))


def test_the_stand_in_for_a_long_socket_path_is_refused_when_another_has_laid_it_out(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = Settings(state_dir=tmp_path / ("long" * 20) / "state")
    stand_in = settings.socket_dir()
    assert stand_in.parent == tmp_path
    (tmp_path / "elsewhere").mkdir()
    stand_in.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=f"{stand_in.name} is not a folder of this account"):
        prepare_folders(settings)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("name", ["", "run", "secrets"])
def test_a_folder_of_another_account_is_refused(tmp_path, name):
    settings = Settings(state_dir=tmp_path / "state")
    settings.at(name).mkdir(parents=True)
    os.chown(settings.at(name), 65534, 65534)
    with pytest.raises(ConfigError, match="is not a folder of this account"):
        prepare_folders(settings)


def test_the_supervisor_gives_its_processes_a_closed_umask(tmp_path, monkeypatch):
    async def run(_platform, _each_second):
        (tmp_path / "written-by-a-process").write_text("")

    monkeypatch.setattr(Platform, "run", run)
    before = os.umask(0o022)
    try:
        lifecycle._run_in_foreground(Settings(state_dir=tmp_path / "state"), None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "written-by-a-process").stat().st_mode) == 0o600
