import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

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
    wandb.teardown()  # it reads its settings once
    yield tmp_path
    wandb.teardown()


def test_the_mode_is_offline_without_a_key(nobody):
    assert choose_mode(None) == ("offline", "no API key found")


def test_the_mode_is_online_with_a_key_in_the_environment(nobody, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert choose_mode(None)[0] == "online"


def test_the_netrc_file_counts_for_its_own_server_only(nobody, monkeypatch):
    (nobody / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert has_key()
    wandb.teardown()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_key()


def test_the_settings_file_may_name_another_server(nobody):
    (nobody / ".netrc").write_text(f"machine wandb.example.org login user password {KEY}\n")
    assert not has_key()
    wandb.teardown()
    (nobody / "config").mkdir()
    (nobody / "config" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert has_key()


def test_the_key_that_wandb_login_writes_is_found(nobody):
    """Under whatever host this version of W&B writes it."""
    command = [sys.executable, "-m", "wandb", "login", "--no-verify", KEY]
    environment = {**os.environ, "HOME": str(nobody), "WANDB_MODE": "online"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    assert has_key()


@pytest.mark.parametrize(("name", "value"), [("WANDB_BASE_URL", "nowhere"), ("WANDB_API_KEY", "short")])
def test_what_wandb_cannot_read_is_one_sentence(nobody, monkeypatch, name, value):
    (nobody / ".netrc").write_text("machine api.wandb.ai login user password short\n")
    monkeypatch.setenv(name, value)
    if name == "WANDB_API_KEY":
        assert has_key(), "a key of another shape is the server's to refuse"
        return
    with pytest.raises(UserError, match="W&B cannot use its settings"):
        has_key()


def test_an_empty_mode_is_none(nobody, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    assert choose_mode(None)[0] == "offline"
    assert "WANDB_MODE" not in os.environ


def test_a_server_that_does_not_answer_is_not_waited_for(nobody, tmp_path):
    """In a process of its own, as W&B keeps one service per process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = (
            "import wandb; import teddy.runtime.wandb_run as t; assert t.PATIENCE < 10; t.PATIENCE = 1.0\n"
            "class Logger:\n"
            "    def __init__(self, offline, **options):\n"
            f"        self.experiment = wandb.init(project='teddy', dir={str(tmp_path)!r}, **options)\n"
            "run = t.open_run(Logger, None); print('offline' in run._run.dir); run.finish(0)"
        )
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment = {**os.environ, "PYTHONPATH": SRC, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": address}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


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
