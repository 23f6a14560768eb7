"""Where ``conf/`` lies: inside the package when installed from a wheel, beside ``src/`` in a checkout."""

from __future__ import annotations

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
