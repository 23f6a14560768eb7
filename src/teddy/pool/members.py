"""The model pool: members in a fixed order, each loaded as a frozen network in eval mode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from teddy.artifacts.fingerprint import fingerprint
from teddy.artifacts.store import Artifact, read_json
from teddy.config.errors import UserError
from teddy.data.spec import DatasetSpec
from teddy.models.networks import build_network
from teddy.models.pruning import replay
from teddy.runtime.device import DeviceConfig
from teddy.runtime.resume import load_tensors

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Member:
    """One weak teacher: its weights, their network, and facts about it."""

    network: str
    file: Path
    epoch: float  # of training; of fine-tuning, for a pruned model, where parts of an epoch count too
    identity: str  # name of the weights in fingerprints, independent of their path
    top1_holdout: float  # in percent, on images held out from training; of a detector its mAP@.5
    history: Path | None = None  # JSON file with the pruning history
    seconds: float = 0.0  # from the base model's first step on; of a pruned model, of its own pruning and fine-tuning

    @classmethod
    def of(cls, artifact: Artifact, network: str, history: str | None = None) -> Member:
        """Read the member in an artifact: its file of weights, and the other attributes among its facts."""
        return cls(
            network=network,
            file=artifact.file(WEIGHTS),
            identity=artifact.fingerprint,
            history=None if history is None else artifact.file(history),
            **{key: artifact.facts[key] for key in ("epoch", "top1_holdout", "seconds")},
        )


@dataclass(frozen=True)
class Trajectory:
    """The weights of one training by epoch: every snapshot, early to late, and before them the untrained network of a seed."""

    members: tuple[Member, ...]
    spec: DatasetSpec
    seed: int
    few_shot: bool = False  # whether it saw a few images of each class alone

    @property
    def epochs(self) -> list[int]:
        """Epochs whose weights there are; 0 is the untrained network."""
        return [0, *(int(member.epoch) for member in self.members)]

    def untrained(self) -> nn.Module:
        spec = self.spec
        return build_network(self.members[0].network, spec.num_classes, spec.channels, spec.size, self.seed)

    def weights(self, epoch: int) -> dict[str, torch.Tensor]:
        if epoch == 0:
            return self.untrained().state_dict()
        return load_tensors(self.members[self.epochs.index(epoch) - 1].file)[0]


@dataclass(frozen=True)
class ModelPool:
    """Weak teachers from one base model, early to late; or from several trainings, one after the other."""

    members: tuple[Member, ...]
    spec: DatasetSpec
    label: str  # name of the strategy that made it
    seconds: float = 0.0  # of training, the base model's included, without epochs that no member needs
    trajectories: tuple[Trajectory, ...] = ()  # whole trainings, known by the identity of a member of each

    def __len__(self) -> int:
        return len(self.members)

    @property
    def fingerprint(self) -> str:
        """Name of the members alone, each of which names its whole training: two selections of the same epochs are one pool."""
        return fingerprint([member.identity for member in self.members])

    @property
    def description(self) -> str:
        """Strategy, epochs and size, such as ``prior 2-10 (5)`` or ``post 0-0.5 (4)``."""
        epochs = sorted(member.epoch for member in self.members)
        span = f"{epochs[0]:g}-{epochs[-1]:g}" if len(epochs) > 1 else f"{epochs[0]:g}"
        return f"{self.label} {span} ({len(epochs)})"

    def load(self, index: int, device: torch.device | str = "cpu", weights: torch.dtype = torch.float32) -> nn.Module:
        """Load member ``index`` as a frozen network in eval mode, with convolutions and linear layers in a type of weights.

        The type that autocast uses changes no result and saves a cast in each pass.
        """
        member, spec = self.members[index], self.spec
        network = build_network(member.network, spec.num_classes, spec.channels, spec.size)
        if member.history is not None:
            replay(network, torch.zeros(1, spec.channels, spec.size, spec.size), read_json(member.history))
        try:
            network.load_state_dict(load_tensors(member.file)[0])
        except RuntimeError as error:
            raise UserError(
                f"the network {member.network} has changed since {member.file} was trained; register it under another name."
            ) from error
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.to(weights)
        return network.to(device).eval().requires_grad_(False)

    def load_teachers(self, device_config: DeviceConfig, indices: Iterable[int] | None = None) -> list[nn.Module]:
        """Load members, all or those at ``indices``, on the run's device in the type of weights that its precision uses."""
        chosen = range(len(self)) if indices is None else indices
        return [self.load(index, device_config.device, device_config.frozen_weights) for index in chosen]
