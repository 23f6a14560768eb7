"""The well-trained base model that a post pool is cut from: trained here, torchvision's, or a file (Sec. 3.3, D.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from teddy.artifacts.fingerprint import file_digest
from teddy.config.errors import BadInput
from teddy.models.networks import build_network
from teddy.models.weights import IMAGENET_CLASSES, fit_weights, read_weights, torchvision_title, torchvision_weights
from teddy.pool.members import Member
from teddy.pool.trajectory import BaseTraining, accuracies, open_data, trajectory
from teddy.runtime.resume import save_tensors

TRAINED = "trained"
PRETRAINED = "pretrained"
VERSION = 1
WEIGHTS = "weights.safetensors"


def check_base(base: BaseTraining, source: str) -> None:
    """Finds out, at little cost and before anything is trained or downloaded, whether there will be a base model.

    Raises:
        BadInput: torchvision has no weights for this network or these images, or the file does not fit.
    """
    spec = base.dataset.spec
    if source == TRAINED:
        return
    if source != PRETRAINED:
        _fitted(base, source)
        return
    title = torchvision_title(base.network)
    if (spec.num_classes, spec.channels) != (IMAGENET_CLASSES, 3):
        raise BadInput(
            f"pool.base=pretrained means {title}, for {IMAGENET_CLASSES} classes and 3 channels, but {spec.name} has "
            f"{spec.num_classes} and {spec.channels}; choose pool.base=trained or give a file with pool.base=FILE."
        )


def base_model(base: BaseTraining, source: str) -> Member:
    """The base model, made now or found in the store.

    Args:
        source: ``trained`` (the last epoch of the base training), ``pretrained`` (torchvision's weights, which have seen the
            images that are held out here, too) or the path of a weight file.

    Returns:
        The member; its epoch is 0 and no time was spent on it unless it was trained here.

    Raises:
        BadInput: the weights are missing, cannot be read, or do not fit network and dataset.
        StageFailed: training diverged or the disk is full.
    """
    check_base(base, source)
    if source == TRAINED:
        return trajectory(base)[-1]
    weights = torchvision_title(base.network) if source == PRETRAINED else file_digest(Path(source).expanduser())
    content = {
        "version": VERSION,
        "network": base.network,
        "dataset": base.dataset.fingerprint,
        "weights": weights,
        # What the accuracies depend on.
        "holdout": base.holdout,
        "seed": base.seed,
        "precision": base.compute.precision,
    }
    artifact = base.store.produce("base", content, lambda folder: _adopt(base, source, folder))
    return Member(
        network=base.network,
        file=artifact.folder / WEIGHTS,
        epoch=0,
        identity=artifact.fingerprint,
        top1_holdout=artifact.facts["top1_holdout"],
        top1_test=artifact.facts["top1_test"],
    )


def _adopt(base: BaseTraining, source: str, folder: Path) -> dict[str, Any]:
    network = _fitted(base, source)
    save_tensors(folder / WEIGHTS, network.state_dict())
    return {
        "source": source,
        **accuracies(base, open_data(base, base.recipe.batch_size), network.to(base.compute.device)),
    }


def _fitted(base: BaseTraining, source: str) -> nn.Module:
    spec = base.dataset.spec
    network = build_network(base.network, spec.num_classes, spec.channels, spec.size)
    if source == PRETRAINED:
        fit_weights(network, torchvision_weights(base.network), torchvision_title(base.network))
    else:
        path = Path(source).expanduser()
        fit_weights(network, read_weights(path), str(path))
    return network
