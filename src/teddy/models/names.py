"""Which networks there are, found out without torch: a misspelt name is refused in the first second.

torchvision registers its classifiers with a decorator, ``@register_model()``; so their names stand in its source files, which are
read here instead of being imported (seconds).
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path

from teddy.config.errors import BadInput

CONVNET = re.compile(r"convnet([1-9]\d*)(?:_w([1-9]\d*))?(?:_(bn|in|none))?")
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
RESNET = re.compile(rf"({'|'.join(RESNETS)})(_cifar)?(?:_w([1-9]\d*))?")
_REGISTERED = re.compile(r"""^@register_model\((?:name=)?["']?(\w*)["']?\).*?^def (\w+)\(""", re.MULTILINE | re.DOTALL)


def check_network(name: str) -> None:
    """Raises BadInput when no network has this name; builds nothing."""
    if CONVNET.fullmatch(name) or RESNET.fullmatch(name):
        return
    known = torchvision_names()
    if name in known:
        return
    # A torchvision that registers in another way: only itself knows.
    if not known or re.search(rf"^def {re.escape(name)}\(", _sources(), re.MULTILINE):
        known = _registered()
        if name in known:
            return
    close = difflib.get_close_matches(name, [*known, *RESNETS, "convnet3", "resnet18_cifar"], n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise BadInput(
        f"there is no network {name!r}{hint}; use convnet<depth>, resnet<layers>_cifar or a torchvision classifier."
    )


def check_networks(*names: str) -> None:
    """Raises BadInput for the first name that no network has."""
    for name in names:
        check_network(name)


def torchvision_names() -> list[str]:
    """The names of torchvision's classifiers according to its source files, sorted; none if there are no such files."""
    return sorted(given or function for given, function in _REGISTERED.findall(_sources()))


@cache
def _sources() -> str:
    """The files of ``torchvision.models`` one after the other, without those of its subpackages (detection, video, …)."""
    found = importlib.util.find_spec("torchvision")  # imports nothing
    folders = (found.submodule_search_locations if found else None) or ()
    files = (file for folder in folders for file in sorted((Path(folder) / "models").glob("*.py")))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _registered() -> list[str]:
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names
