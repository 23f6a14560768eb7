"""The well-trained base model of a pool: trained here, torchvision's, or a file (Sec. 3.3, D.1)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import nn

from teddy.artifacts.fingerprint import file_digest
from teddy.artifacts.store import Outlook
from teddy.config.errors import UserError
from teddy.models.weights import IMAGENET_CLASSES, fit_weights, read_weights, torchvision_title, torchvision_weights
from teddy.pool.members import WEIGHTS, Member
from teddy.pool.trajectory import BaseTraining, trajectory
from teddy.runtime.distributed import is_leader
from teddy.runtime.resume import save_tensors

TRAINED = "trained"
PRETRAINED = "pretrained"
VERSION = 1


def check_base(base: BaseTraining, source: str) -> None:
    """Check at little cost, before anything is trained or downloaded, whether there will be a base model; UserError if not."""
    if source == PRETRAINED:
        title, spec = torchvision_title(base.network), base.dataset.spec
        if (spec.num_classes, spec.channels) != (IMAGENET_CLASSES, 3):
            raise UserError(
                f"pool.base=pretrained means {title}, for {IMAGENET_CLASSES} classes and 3 channels, but {spec.name} has "
                f"{spec.num_classes} and {spec.channels}; choose pool.base=trained or give a file with pool.base=FILE."
            )
    elif source != TRAINED:
        _network(base, source)


def base_model(base: BaseTraining, source: str) -> Member:
    """Make the base model, or find it in the store; weights from elsewhere have epoch 0 and no seconds of training.

    Its source is ``trained`` (the last epoch of the base training), ``pretrained`` (torchvision's weights, which have seen the
    images that are held out here, too) or the path of a weight file.
    """
    check_base(base, source)
    if source == TRAINED:
        return trajectory(base)[-1]
    content = {
        "version": VERSION,
        "network": base.network,
        "dataset": base.dataset.fingerprint,
        "weights": torchvision_title(base.network) if source == PRETRAINED else file_digest(Path(source).expanduser()),
        # What the accuracy depends on.
        "holdout": base.holdout,
        "seed": base.seed,
        **base.device_config.fingerprint,
    }

    def build(folder: Path) -> dict[str, Any]:
        network, data = _network(base, source), base.open_data(base.recipe.batch_size)
        if is_leader():
            save_tensors(folder / WEIGHTS, network.state_dict())
        return {"source": source, "epoch": 0, "seconds": 0.0, "top1_holdout": base.holdout_top1(network, data)}

    facts = {"epoch": 0, "seconds": 0.0, "top1_holdout": math.nan}

    def outlook() -> Outlook:
        held = len(base.dataset.train) * base.holdout
        return Outlook(f"{base.network}, {source}", facts, base.stand_in, passes=held / 3, timed=False)

    return Member.of(
        base.store.produce("base", content, build, collective=base.device_config.together, outlook=outlook),
        base.network,
    )


def _network(base: BaseTraining, source: str) -> nn.Module:
    network = base.build_network()
    if source == PRETRAINED:
        fit_weights(network, torchvision_weights(base.network), torchvision_title(base.network))
    else:
        path = Path(source).expanduser()
        fit_weights(network, read_weights(path), str(path))
    return network
