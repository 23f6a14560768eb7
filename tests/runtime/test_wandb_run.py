import os
import subprocess
import sys
from pathlib import Path

import pytest

import teddy
from teddy.config.errors import UserError
from teddy.runtime.wandb_run import choose_mode, has_key

KEY = "k" * 40
SRC = str(Path(teddy.__file__).parents[1])


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A machine on which nobody has logged in to W&B."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "nowhere"))
    return tmp_path


def test_the_mode_is_offline_without_a_key(nobody):
    assert choose_mode(None) == ("offline", "no API key found")


def test_the_mode_is_online_with_a_key_in_the_environment(nobody, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert choose_mode(None)[0] == "online"


def test_the_netrc_file_counts_for_its_own_server_only(nobody, monkeypatch):
    (nobody / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_key()


def test_the_settings_file_may_name_another_server(nobody):
    (nobody / ".netrc").write_text(f"machine wandb.example.org login user password {KEY}\n")
    assert not has_key()
    (nobody / "config").mkdir()
    (nobody / "config" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert has_key()


def test_a_damaged_netrc_file_is_no_key(nobody):
    (nobody / ".netrc").write_text("machine\nmachine")
    assert not has_key()


def test_the_environment_overrules_the_key_but_not_the_configuration(nobody, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode(None)[0] == "disabled"
    assert choose_mode(True) == ("offline", "logger.wandb.offline=true")
    assert choose_mode(False) == ("online", "logger.wandb.offline=false")


@pytest.mark.parametrize("offline", [False, None])
def test_online_without_a_key_is_refused_with_the_remedy(nobody, monkeypatch, offline):
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match="wandb login"):
        choose_mode(offline)


def test_an_unknown_mode_is_refused(nobody, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UserError, match="WANDB_MODE=ofline is not a W&B mode; choose online, offline or disabled"):
        choose_mode(None)


def test_the_mode_is_known_before_torch_is_loaded():
    program = "import sys, teddy.runtime.wandb_run; assert not {'torch', 'lightning', 'wandb'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": SRC})
