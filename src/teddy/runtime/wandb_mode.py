"""Whether Weights & Biases goes online: decided here once, without asking and without importing it."""

from __future__ import annotations

import configparser
import netrc
import os
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from teddy.config.errors import BadInput

Mode = Literal["online", "offline", "disabled"]


def choose_mode(mode: str) -> tuple[Mode, str]:
    """The mode to use and the reason.

    Args:
        mode: a mode, or ``auto``: what WANDB_MODE says, else online if there is a key, else offline.

    Raises:
        BadInput: there is no such mode, or it is online and no key can be found.
    """
    chosen, why = mode, f"logger.mode={mode}"
    if mode == "auto":
        if wish := os.environ.get("WANDB_MODE"):
            chosen, why = {"dryrun": "offline", "run": "online"}.get(wish, wish), f"WANDB_MODE={wish}"
        else:
            chosen, why = ("online", "an API key was found") if has_key() else ("offline", "no API key found")
    if chosen not in get_args(Mode):
        raise BadInput(f"{why} is not a W&B mode; choose online, offline or disabled (or logger.mode=auto).")
    if chosen == "online" and not has_key():
        raise BadInput(f"{why} needs a W&B API key and none was found; run `wandb login` first or use logger=offline.")
    return cast(Mode, chosen), why


def has_key() -> bool:
    """Whether W&B would find an API key without asking: in the environment, its settings files or the netrc
    file.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = _settings_files()
    if settings.get("api_key"):
        return True
    candidates = [Path(os.environ["NETRC"])] if os.environ.get("NETRC") else [Path("~/.netrc"), Path("~/_netrc")]
    path = next((found for item in candidates if (found := item.expanduser()).is_file()), None)
    if path is None:
        return False
    server = os.environ.get("WANDB_BASE_URL") or settings.get("base_url") or "https://api.wandb.ai"
    try:
        return netrc.netrc(path).authenticators(urlsplit(server).netloc) is not None
    except (netrc.NetrcParseError, OSError):
        return False


def _settings_files() -> dict[str, str]:
    """W&B's own settings: the user's, overruled by those of the current folder."""
    home = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([home / "settings", Path(os.environ.get("WANDB_DIR") or ".") / "wandb" / "settings"])
    except (configparser.Error, UnicodeDecodeError):
        return {}
    return dict(parser["default"]) if parser.has_section("default") else {}
