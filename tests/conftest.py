"""What every test gets: no account, no network, one thread, no Hydra state left over from another test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Tests run in as many processes as there are cores (pytest-xdist), so each keeps to one thread.
torch.set_num_threads(1)

# The same examples in every run: a red test stays red until the code changes.
settings.register_profile("teddy", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("teddy")

SHORT = (
    "name=tiny",
    "model.name=convnet2_w8",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.threads=1",
    "trainer.workers=0",
    "logger=csv",
    "pool.first=1",
    "pool.last=3",
    "pool.every=2",
    "pool.training.epochs=3",
    "synthesis.snapshot_every=3",
    "evaluation.protocol=paper",
    "evaluation.epochs=3",
    "evaluation.seeds=1",
)
"""Every number that makes the quick start long, at its least: the arguments of a run that takes a second."""


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Also holds for the processes that a test starts, and for fixtures of a wider scope than one test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_DIR", str(tmp_path_factory.mktemp("wandb")))
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(autouse=True)
def fresh_hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


@pytest.fixture(scope="session")
def read_wandb() -> Callable[..., str]:
    """Reads an offline run with W&B's own tool: what ``wandb leet inspect`` tells of the run under a folder."""

    def read(folder: Path, *options: str) -> str:
        (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
        reader = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", *options, str(file)]
        done = subprocess.run(reader, capture_output=True, text=True, timeout=60)
        if "No such command" in done.stderr:
            pytest.skip("this wandb has no `leet inspect`")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return read


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_cifar10() -> Path:
    """The folder with CIFAR-10 as parquet that may lie beside the checkout."""
    folder = ROOT.parent / "shared" / "data" / "cifar10"
    if not folder.is_dir():
        pytest.skip("CIFAR-10 does not lie beside this checkout (../shared/data/cifar10)")
    return folder
