"""Where ``conf/`` lies, inside the package when installed from a wheel, beside ``src/`` in a checkout, and its options."""

from __future__ import annotations

import textwrap
from pathlib import Path


def config_dir() -> Path:
    """The folder that holds ``config.yaml``; FileNotFoundError if the installation is broken.

    Never the working directory: any folder called ``conf`` there would take over the program.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise FileNotFoundError(f"conf/config.yaml belongs beside {package}; install teddy-distill again")


def options(group: str) -> list[str]:
    """Names of the files of a group that a user may choose, sorted."""
    return sorted(file.stem for file in (config_dir() / group).glob("[!_]*.yaml"))


def groups() -> str:
    """A line of options for each group, also of the user's own folder, for ``python -m teddy --help``."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.object_type import ObjectType

    sources = GlobalHydra.instance().config_loader().get_sources()  # the loader's own lists copy all of them each time

    def listed(folder: str, kind: ObjectType) -> list[str]:
        return sorted({name for one in sources if one.is_group(folder) for name in one.list(folder, kind)})

    lines = []
    for group in listed("", ObjectType.GROUP):
        names = listed(group, ObjectType.CONFIG)
        chosen = ", ".join(name for name in names if name != "schema" and not name.startswith("_"))
        if chosen and group != "hydra":
            lines.append(textwrap.fill(f"{group}: {chosen}", 120, subsequent_indent="    "))
    return "\n".join(lines)
