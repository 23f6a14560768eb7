"""Weights from elsewhere: torchvision's and the user's files. Nothing in a file is ever executed."""

from __future__ import annotations

import argparse
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from teddy.config.errors import UserError, reason

IMAGENET_CLASSES = 1000
_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")


def torchvision_weights(name: str) -> dict[str, torch.Tensor]:
    """Load torchvision's first weights of a network for ImageNet-1K (69.76 % for ResNet-18); downloaded once, hash checked."""
    weights = _imagenet_weights(name)
    try:
        tensors = weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
    except Exception as error:  # network, disk, or half a download
        why = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"pool.base=pretrained cannot load torchvision's weights from {weights.url} ({why}); download that file elsewhere "
            "and give it with pool.base=FILE."
        ) from error
    return {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in tensors.items()}


def torchvision_title(name: str) -> str:
    """Torchvision's name of these weights, such as ``ResNet18_Weights.IMAGENET1K_V1``; UserError if it has none."""
    return str(_imagenet_weights(name))


def _imagenet_weights(name: str) -> Any:
    from torchvision import models  # takes more than a second, and few pools need it

    try:
        return models.get_model_weights(name)["IMAGENET1K_V1"]
    except (ValueError, KeyError) as error:
        raise UserError(
            f"pool.base=pretrained needs a network of torchvision that was trained on ImageNet-1K, not {name}; choose another "
            "model, such as model=resnet18, or pool.base=trained, or give a file with pool.base=FILE."
        ) from error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the state dict in a ``.safetensors`` file or in a file of ``torch.save``.

    It may be wrapped, as training scripts do, under ``model`` or ``state_dict``, and come from a parallel wrapper, which puts
    ``module.`` before each name. UserError if the file is missing or damaged, holds code to be run, or no weights.
    """
    if not path.is_file():
        raise UserError(f"pool.base={path} is no file; give trained, pretrained, or a file of weights.")
    content = load_plain(path, "file of weights", "save the network's state_dict() alone and give that file")
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(torch.is_tensor(value) for value in content.values()):
        raise UserError(f"{path} holds no state dict; save the network's state_dict() and give that file.")
    tensors = {str(key): tensor for key, tensor in content.items()}
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    return tensors


def load_plain(path: Path, what: str, remedy: str) -> Any:
    """Load a ``.safetensors`` file, or the tensors, numbers and words in a file of ``torch.save``.

    Args:
        what: the file should be, and the ``remedy``, for messages.

    Raises:
        UserError: it is damaged, or holds code to be run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):  # torch.save compresses nothing, so a small file cannot hold a large tensor
            with zipfile.ZipFile(path) as parts:
                if sum(part.file_size for part in parts.infolist()) > path.stat().st_size:
                    raise ValueError("it announces more than it holds")
        # torchvision's training script also saves its command line: a plain record.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is no {what} or holds more than that, and nothing in it was run; {remedy}.") from error
    except Exception as error:  # on damaged files torch raises errors of any kind
        raise UserError(f"{path} is not a whole {what} ({reason(error)}); {remedy}.") from error


def fit_weights(network: nn.Module, tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Load a state dict, all of it, or raise UserError, which calls the weights those of ``what`` and names the first misfit."""
    try:
        network.load_state_dict(tensors)  # BatchNorm's counters, which weights from before 2018 lack, are no misfit
    except RuntimeError as error:
        why = str(error).splitlines()[1].strip().rstrip(".")
        raise UserError(
            f"the weights of {what} do not fit model.name: {why}; choose the network that they were trained as."
        ) from error
