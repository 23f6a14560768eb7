"""The pool as its readers see it: members in a fixed order, each a frozen network in eval mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from teddy.artifacts.fingerprint import fingerprint
from teddy.artifacts.store import read_json
from teddy.config.errors import BadInput
from teddy.data.spec import DatasetSpec
from teddy.models.networks import build_network
from teddy.models.pruning import replay
from teddy.runtime.resume import load_tensors


@dataclass(frozen=True)
class Member:
    """One weak teacher: its weights, the network they belong to, and what is known about it.

    Attributes:
        epoch: epochs of training behind it (of fine-tuning, for a pruned copy, where parts of an epoch count too).
        identity: names the weights for fingerprints, independent of where they lie.
        top1_holdout: accuracy in percent on the images held out from training; choosing may use it.
        top1_test: accuracy in percent on the test split; for the report, never chosen by.
        history: JSON file with what was pruned from the network, or None for the network as it is built.
        seconds: of training that the weights took, from the base model's first step on; for a pruned copy, of its own pruning
            and fine-tuning only, without the base model's training.
    """

    network: str
    file: Path
    epoch: float
    identity: str
    top1_holdout: float
    top1_test: float
    history: Path | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class ModelPool:
    """Weak teachers from one base model, early to late.

    Attributes:
        seconds: of training that the pool took, the base model's included, without epochs that no member needs.
    """

    members: tuple[Member, ...]
    spec: DatasetSpec
    label: str
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.members)

    @property
    def fingerprint(self) -> str:
        """Names the members and nothing else: two selections of the same epochs are the same pool."""
        return fingerprint([member.identity for member in self.members])

    @property
    def description(self) -> str:
        """Such as ``prior 2-10 (5)`` or ``post 0-0.5 (4)``: strategy, epochs, size."""
        epochs = [member.epoch for member in self.members]
        span = f"{epochs[0]:g}-{epochs[-1]:g}" if len(epochs) > 1 else f"{epochs[0]:g}"
        return f"{self.label} {span} ({len(epochs)})"

    def load(self, index: int, device: torch.device | str = "cpu", weights: torch.dtype = torch.float32) -> nn.Module:
        """Member ``index`` as a frozen network in eval mode.

        Args:
            weights: type of the convolutions' and linear layers' parameters. Under autocast to this type nothing changes but
                that they are not cast anew in each pass.

        Raises:
            BadInput: the weights are missing, damaged or of another shape than the network, or what was pruned from it is.
        """
        member, spec = self.members[index], self.spec
        network = build_network(member.network, spec.num_classes, spec.channels, spec.size)
        if member.history is not None:
            history = read_json(member.history)
            try:
                replay(network, torch.zeros(1, spec.channels, spec.size, spec.size), history)
            except BadInput as error:
                raise BadInput(
                    f"{member.history} does not say what was pruned from {member.network} for {spec.num_classes} classes; "
                    "delete its folder and run the command again."
                ) from error
        try:
            tensors, _ = load_tensors(member.file)
        except BadInput as error:
            # The file alone would leave a manifest that vouches for it.
            what, _, _ = str(error).partition(";")
            raise BadInput(
                f"{what}; delete it with its folder {member.file.parent} and run the command again."
            ) from error
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise BadInput(
                f"{member.file} does not hold the weights of {member.network} for {spec.num_classes} classes "
                f"({str(error).splitlines()[-1].strip()}); delete its folder and run the command again."
            ) from error
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.to(weights)
        return network.to(device).eval().requires_grad_(False)


def select(members: Sequence[Member], epochs: Sequence[int]) -> tuple[Member, ...]:
    """The members of a trajectory with these epochs, in their order."""
    by_epoch = {member.epoch: member for member in members}
    return tuple(by_epoch[epoch] for epoch in epochs)
