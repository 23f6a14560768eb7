"""Every file in ``conf/dataset`` names a source that exists and takes its keys."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from teddy.config.build import build
from teddy.config.errors import UserError
from teddy.config.paths import config_dir
from teddy.config.schema import register_schemas
from teddy.data.augment import Augmentation
from teddy.data.dataset import RealDataset

NAMES = sorted(path.stem for path in (config_dir() / "dataset").glob("[!_]*.yaml"))


def configured(name: str, *overrides: str) -> dict:
    register_schemas()
    with initialize_config_dir(str(config_dir()), version_base=None):
        return OmegaConf.to_container(compose("config", [f"dataset={name}", *overrides]).dataset, resolve=True)


@pytest.mark.parametrize("name", NAMES)
def test_file_is_whole(name, tmp_path):
    config = configured(name, *([] if name in ("fashion_mini", "shapes") else [f"dataset.root={tmp_path}"]))
    Augmentation(**config["augment"])
    assert 0 < config["holdout"] < 1
    if config["mean"] is not None:
        assert len(config["mean"]) == len(config["std"]) == config["channels"]
    facts = ("num_classes", "channels", "size", "resize", "mean", "std", "class_names")
    data = RealDataset(config["name"], build("dataset.source", config["source"]), **{key: config[key] for key in facts})
    if name == "fashion_mini":
        assert data.spec.mean == (0.286,)
    elif name == "shapes":  # is made, not read
        data.source.check()
        assert len(data.fingerprint) == 16
    elif name not in ("cifar10", "cifar100", "fashion_mnist"):  # those three would look elsewhere or download
        with pytest.raises(UserError, match=str(tmp_path)):
            _ = data.fingerprint
        with pytest.raises(UserError, match=str(tmp_path)):
            data.source.check()


def test_the_first_look_fetches_nothing(tmp_path):
    for name in NAMES:
        config = configured(name)
        if config["source"].get("root") is None and name not in (
            "imagefolder",
            "own",
            "imagenet",
            "imagenet_shards",
            "tiny_imagenet",
            "hf",
            "voc",
        ):
            build("dataset.source", config["source"]).check()
    build("dataset.source", configured("cifar10", f"dataset.root={tmp_path / 'new'}")["source"]).check()
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "datasets").exists()
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError, match="consists of pickles"):
        build("dataset.source", configured("cifar10", f"dataset.root={tmp_path}")["source"]).check()


@pytest.mark.parametrize("name", ["imagenet", "imagenet_shards", "imagefolder", "own", "tiny_imagenet", "hf", "voc"])
def test_a_folder_that_was_not_given_is_asked_for(name):
    with pytest.raises(UserError, match=r"dataset\.root"):
        build("dataset.source", configured(name)["source"])
