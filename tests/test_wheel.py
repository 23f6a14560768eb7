"""The wheel that a user installs holds the configs, embedded data and licences, and nothing private."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import teddy


@pytest.fixture(scope="module")
def wheel(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built as a release is, through the sdist; without isolation, so nothing is fetched."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(repo_root)]
    build = subprocess.run(command, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def tracked(root: Path, folder: str) -> set[str]:
    """Paths under ``folder`` that git tracks and that exist, relative to it."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed, so what it tracks is not known")
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--", folder], capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    names = {name for name in listing.stdout.split("\0") if name and (root / name).is_file()}
    if not names:
        pytest.skip(f"git tracks nothing in {folder}/ yet")
    return {Path(name).relative_to(folder).as_posix() for name in names}


def packed(wheel: zipfile.ZipFile, folder: str) -> set[str]:
    """Paths under ``folder`` in the wheel, relative to it."""
    return {name.removeprefix(f"{folder}/") for name in wheel.namelist() if name.startswith(f"{folder}/")}


def test_configs_are_exactly_the_tracked_ones(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    expected, found = tracked(repo_root, "conf"), packed(wheel, "teddy/conf")
    missing, untracked = sorted(expected - found), sorted(found - expected)
    assert not missing, "tracked in conf/ but not in the wheel"
    assert not untracked, "in the wheel but not tracked: `git add` it or move it out of conf/"


def test_all_modules_and_embedded_data_are_packed(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    source = repo_root / "src" / "teddy"
    expected = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    missing = sorted(expected - packed(wheel, "teddy"))
    assert not missing, "not in the wheel; does a pattern in .gitignore match them?"
    assert "py.typed" in expected
    assert packed(wheel, "hydra_plugins") == {"teddy_search.py"}, (
        "no __init__.py: other packages have plug-ins there, too"
    )
    assert any(name.startswith("data/embedded/") and not name.endswith("NOTICE") for name in expected)


def test_configs_have_the_same_bytes(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    assert wheel.read("teddy/conf/config.yaml") == (repo_root / "conf" / "config.yaml").read_bytes()


def test_licences_travel_with_the_wheel(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    (licence,) = (name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
    assert wheel.read(licence) == (repo_root / "LICENSE").read_bytes()
    notice = "src/teddy/data/embedded/NOTICE"
    assert licence.removesuffix("LICENSE") + notice in wheel.namelist()
    assert wheel.read("teddy/data/embedded/NOTICE") == (repo_root / notice).read_bytes()


def test_metadata_names_the_package_and_the_command(wheel: zipfile.ZipFile, repo_root: Path) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    fields = Parser().parsestr(wheel.read(metadata).decode())
    assert fields["Name"] == "teddy-distill"
    assert fields["Version"] == teddy.__version__
    assert fields["License-Expression"] == "Apache-2.0"

    assert f"\nversion: {teddy.__version__}\n" in (repo_root / "CITATION.cff").read_text()

    entry_points = configparser.ConfigParser()
    entry_points.read_string(wheel.read(metadata.replace("METADATA", "entry_points.txt")).decode())
    assert dict(entry_points["console_scripts"]) == {"teddy": "teddy.cli:main"}


def test_the_description_has_no_link_that_leads_nowhere(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    description = wheel.read(metadata).decode().partition("\n\n")[2]
    assert "# Teddy" in description
    assert "garments" in description
    assert set(re.findall(r"\]\((?!https://)[^)]*\)", description)) == set()


def test_the_description_points_to_the_repository_once_it_has_an_address(repo_root: Path) -> None:
    spec = importlib.util.spec_from_file_location("hatch_build", repo_root / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "![a dog](docs/dog.png) [more](docs/more.md#x) [out](https://example.org) [here](#there)"
    expected = (
        "![a dog](https://host/us/it/raw/HEAD/docs/dog.png) [more](https://host/us/it/blob/HEAD/docs/more.md#x) "
        "[out](https://example.org) [here](#there)"
    )
    assert module.readme(text, "https://host/us/it/") == expected
    assert module.readme(text, None) == (
        "*a dog: docs/dog.png in the source archive* more [out](https://example.org) [here](#there)"
    )


def test_the_notebook_and_the_readme_run_from_the_wheel_elsewhere_without_a_network(
    wheel: zipfile.ZipFile, repo_root: Path, tmp_path: Path
) -> None:
    site, place = tmp_path / "site", tmp_path / "place"
    wheel.extractall(site)  # what installing a pure wheel does
    place.mkdir()
    for name in ("docs/notebooks/use.ipynb", "README.md", "tests/offline.py"):
        shutil.copy(repo_root / name, tmp_path)
    script = [sys.executable, str(tmp_path / "offline.py"), str(tmp_path / "use.ipynb"), str(tmp_path / "README.md")]
    apart = ["unshare", "--map-root-user", "--net"]
    alone = (
        shutil.which("unshare") and subprocess.run([*apart, "true"], capture_output=True, check=False).returncode == 0
    )
    settings = {"PYTHONPATH": str(site), "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEDDY_")} | settings
    done = subprocess.run(
        [*apart, *script] if alone else [*script, "--block"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(site / "teddy"))
    assert sorted(path.name for path in (place / "run" / "sets").iterdir()) == ["classwise"]
