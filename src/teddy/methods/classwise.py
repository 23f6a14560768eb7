"""Class-wise matching of weak teachers: Eq. 5 with the class means of Prop. 2.

``L(S) = sum_c ||mu_c(S) - mu_c(T)||^2 / sum_c ||mu_c(T) - mu(T)||^2 + u * CE(h_k(A(S)), y)``

for one teacher k and one augmentation A in each iteration: mu_c is the mean of a teacher's last features over the images of class
c, mu the mean of the mu_c. The quotient makes the loss independent of the size of the features, which differs between teachers.
The real side is measured once for a fixed set of augmentations (the bank) and shared by all IPC and initialisations; both sides
see the same augmentation (Siamese). DM (Zhao & Bilen, WACV 2023) has the same distance, for random networks and unscaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch.nn import functional as F

from teddy.data.dsa import dsa
from teddy.models.features import FeatureNetwork
from teddy.runtime import seeding
from teddy.runtime.device import DeviceConfig
from teddy.runtime.distributed import is_leader
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import load_tensors, save_tensors
from teddy.synthesis.init import shuffled_class
from teddy.synthesis.method import Inputs, Needs
from teddy.synthesis.optimized import OptimizedMethod, State, cosine

BANK_VERSION = 1
BANK = "class_means.safetensors"


@dataclass(frozen=True)
class Shared:
    """The teachers, and the real class means under each teacher and augmentation, (K, A, classes, D)."""

    teachers: list[FeatureNetwork]
    bank: torch.Tensor


def class_means(features: torch.Tensor, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Mean of the features (N, D) of each class, (classes, D), float32; zeros for a class without images."""
    sums = features.new_zeros(num_classes, features.shape[1], dtype=torch.float32).index_add(
        0, labels, features.float()
    )
    return sums / labels.bincount(minlength=num_classes).clamp(min=1)[:, None]


def relative_distance(own: torch.Tensor, real: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Squared distance of class means (classes, D) to the real ones, by the real ones' scatter about their mean; a scalar.

    Args:
        classes: which classes count (n,).
    """
    scatter = (real - real.mean(0)).square().sum() * (len(classes) / len(real))
    return (own - real)[classes].square().sum() / scatter


@dataclass(frozen=True, kw_only=True)
class ClassWise(OptimizedMethod):
    """Class means of the last features and cross-entropy, of one weak teacher in each iteration.

    Attributes:
        lr, momentum: of SGD on the pixels. The rate is ``lr`` for one image per class and grows with their number, by which the
            gradient of a mean falls; it goes to 0 by a cosine.
        ce_weight: u.
        augmentations: how many draws of DSA the bank holds.
        real_images: how many of each class it is measured on, at most.
    """

    lr: PositiveFloat
    momentum: NonNegativeFloat
    ce_weight: NonNegativeFloat
    augmentations: PositiveInt
    real_images: PositiveInt

    version: ClassVar[int] = 1

    def needs(self) -> Needs:
        """Teachers, and the real images that the bank is measured on."""
        return Needs(pool=True, data=True)

    def prepare(self, inputs: Inputs, device_config: DeviceConfig) -> Shared:
        """Load the teachers, and the bank, which is measured unless it is in the store."""
        pool, seed = inputs.pool, 0  # one bank for all seeds of synthesis
        teachers = [FeatureNetwork(network) for network in pool.load_teachers(device_config)]
        content = {
            "version": BANK_VERSION,
            "pool": pool.fingerprint,
            "augmentations": self.augmentations,
            "real_images": self.real_images,
            "precision": device_config.precision,
        }

        def build(folder: Path) -> dict[str, Any]:
            bank = self.measure(inputs, teachers, device_config, seed)
            if is_leader():
                save_tensors(folder / BANK, {"class_means": bank})
            return {"megabytes": round(bank.nbytes / 1e6, 2)}

        bank = load_tensors(inputs.artifact("bank", content, build).folder / BANK)[0]["class_means"]
        return Shared(teachers, bank.to(device_config.device))

    @torch.no_grad()
    def measure(
        self, inputs: Inputs, teachers: Sequence[FeatureNetwork], device_config: DeviceConfig, seed: int
    ) -> torch.Tensor:
        """The real class means under each teacher and augmentation, (K, A, classes, D), float32 on the CPU."""
        spec, train = inputs.spec, inputs.train
        means = []
        with StageProgress("class means", spec.num_classes, "classes") as progress:
            for label in range(spec.num_classes):
                chosen = shuffled_class(train, label, seed, "bank")[: self.real_images]
                images = spec.normalise(train.take(chosen)).to(device_config.device)
                for index in range(self.augmentations):
                    views = augmented(images, index)
                    with device_config.autocast():
                        means += [teacher(views)[0].float().mean(0).cpu() for teacher in teachers]
                progress.advance()
        shape = spec.num_classes, self.augmentations, len(teachers), -1
        return torch.stack(means).view(shape).permute(2, 1, 0, 3).contiguous()

    def optimizer(self, state: State) -> torch.optim.Optimizer:
        per_class = len(state.labels) / len(state.blocks) / len(state.labels.unique())
        return torch.optim.SGD([state.pixels], lr=self.lr * per_class, momentum=self.momentum)

    def lr_factor(self, iteration: int) -> float:
        return cosine(iteration, self.iterations)

    def step(self, state: State, iteration: int) -> dict[str, torch.Tensor]:
        """The gradient for the iteration's teacher and augmentation."""
        shared: Shared = state.shared
        draws = seeding.uniform(state.seed, "classwise", iteration, draws=2)[0]
        teacher, index = int(draws[0] * len(shared.teachers)), int(draws[1] * self.augmentations)
        with torch.autocast(state.pixels.device.type, enabled=False):
            views = augmented(state.pixels, index)
        features, logits = shared.teachers[teacher](views)
        real, count = shared.bank[teacher, index], len(state.blocks)
        parts = zip(features.chunk(count), state.labels.chunk(count), strict=True)
        distances = [relative_distance(class_means(f, y, len(real)), real, y.unique()) for f, y in parts]
        distance = torch.stack(distances)
        each = F.cross_entropy(logits.float(), state.labels, reduction="none")
        ce = each.view(count, -1).mean(1)
        loss = distance + self.ce_weight * ce
        loss.sum().backward()
        return {"loss": loss.detach(), "class_means": distance.detach(), "cross_entropy": ce.detach()}


def augmented(images: torch.Tensor, index: int) -> torch.Tensor:
    """Images (N, C, H, W) under augmentation ``index``: one operation of DSA with one strength for all."""
    return dsa(images, "class means", index, siamese=True)
