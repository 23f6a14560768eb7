"""The pool as its readers see it: members in a fixed order, each a frozen network in eval mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from teddy.artifacts.fingerprint import fingerprint
from teddy.config.errors import BadInput
from teddy.data.spec import DatasetSpec
from teddy.models.networks import build_network
from teddy.runtime.resume import load_tensors


@dataclass(frozen=True)
class Member:
    """One weak teacher: its weights, the network they belong to, and what is known about it.

    Attributes:
        epoch: full epochs of training behind it.
        identity: names the weights for fingerprints, independent of where they lie.
        top1_holdout: accuracy in percent on the images held out from training; choosing may use it.
        top1_test: accuracy in percent on the test split; for the report, never chosen by.
    """

    network: str
    file: Path
    epoch: int
    identity: str
    top1_holdout: float
    top1_test: float


@dataclass(frozen=True)
class ModelPool:
    """Weak teachers from one base model, early to late."""

    members: tuple[Member, ...]
    spec: DatasetSpec
    label: str

    def __len__(self) -> int:
        return len(self.members)

    @property
    def fingerprint(self) -> str:
        """Names the members and nothing else: two selections of the same epochs are the same pool."""
        return fingerprint([member.identity for member in self.members])

    @property
    def description(self) -> str:
        """Such as ``prior 2-10 (5)``: strategy, epochs, size."""
        epochs = [member.epoch for member in self.members]
        span = f"{epochs[0]}-{epochs[-1]}" if len(epochs) > 1 else f"{epochs[0]}"
        return f"{self.label} {span} ({len(epochs)})"

    def load(self, index: int, device: torch.device | str = "cpu") -> nn.Module:
        """Member ``index`` as a frozen network in eval mode.

        Raises:
            BadInput: the weights are missing, damaged or of another shape than the network.
        """
        member, spec = self.members[index], self.spec
        network = build_network(member.network, spec.num_classes, spec.channels, spec.size)
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
        return network.to(device).eval().requires_grad_(False)

    def spread(self, count: int) -> list[int]:
        """``count`` member indices, evenly spread from the first to the last (Fig. 3b uses parts of a pool)."""
        if count == 1:
            return [len(self) - 1]
        return [round(i * (len(self) - 1) / (count - 1)) for i in range(count)]


def select(members: Sequence[Member], epochs: Sequence[int]) -> tuple[Member, ...]:
    """The members of a trajectory with these epochs, in their order."""
    by_epoch = {member.epoch: member for member in members}
    return tuple(by_epoch[epoch] for epoch in epochs)
