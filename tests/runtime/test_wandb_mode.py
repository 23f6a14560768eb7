import pytest

from teddy.config.errors import BadInput
from teddy.runtime.wandb_mode import choose_mode, has_key

KEY = "k" * 40


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A machine on which nobody has logged in to W&B."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "nowhere"))
    return tmp_path


def test_auto_is_offline_without_a_key(nobody):
    assert choose_mode("auto") == ("offline", "no API key found")


def test_auto_is_online_with_a_key_in_the_environment(nobody, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert choose_mode("auto")[0] == "online"


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


def test_wandb_mode_overrules_auto_but_not_a_chosen_mode(nobody, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode("auto")[0] == "disabled"
    assert choose_mode("offline")[0] == "offline"


@pytest.mark.parametrize("mode", ["online", "auto"])
def test_online_without_a_key_says_what_to_do(nobody, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(BadInput, match="wandb login"):
        choose_mode(mode)


def test_an_unknown_mode_is_refused(nobody):
    with pytest.raises(BadInput, match=r"logger\.mode=ofline is not a W&B mode"):
        choose_mode("ofline")
