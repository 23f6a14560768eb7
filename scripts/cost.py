"""What an ImageNet-1K run of the paper's settings takes: `python scripts/cost.py --ms 0.52 --ipc 10 --gpus 8`.

The unit is `ms`, the milliseconds that one teacher needs for one image of one iteration of synthesis: forward, and the gradient
with respect to the image. A forward pass alone is half of that, a training step one and a half. `make bench DEVICE=cuda` measures
it: the row "synthesis step, resnet18, 224 px, batch 100, n=3" in seconds, times 1000, divided by 100 images and 3 teachers.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

CLASSES, TRAIN_IMAGES, HELD_OUT = 1000, 1_281_167, 0.02
TEACHER_EPOCHS, TEACHERS, PER_BLOCK, ITERATIONS, BLOCK = 71, 9, 3, 6000, 100
STUDENT_EPOCHS, STUDENTS, SETS = 300, 3, 2  # the distilled images, and random ones beside them
ONE_MACHINE = 8
"""GPUs that the training of networks still uses well: 32 images of a batch of 256 on each."""

CARDS = {"RTX 4090": 1.0, "A100 80 GB": 1.9, "H100 SXM": 3.3}
"""How many times faster than an RTX 4090; docs/scaling.md says why."""
CDA = 29 * 3.6e6 / (50_000 * 4000)
"""Milliseconds on an RTX 4090 in float32: 29 hours for 50,000 images and 4,000 iterations (Yin & Shen, 2024; their README)."""


@dataclass(frozen=True)
class Hours:
    """Hours of each stage."""

    teachers: float
    synthesis: float
    labels: float
    students: float

    @property
    def total(self) -> float:
        """Of the whole run."""
        return self.teachers + self.synthesis + self.labels + self.students


def hours(ms: float, ipc: int, gpus: int = 1) -> Hours:
    """Hours from the start to the end of a run."""
    images, hour = CLASSES * ipc, ms / 3.6e6
    blocks = images / BLOCK
    rounds = math.ceil(blocks / gpus) / blocks  # blocks are dealt whole
    training = min(gpus, ONE_MACHINE)
    return Hours(
        teachers=TEACHER_EPOCHS * TRAIN_IMAGES * (1 - HELD_OUT) * 1.5 * hour / training,
        synthesis=images * ITERATIONS * PER_BLOCK * hour * rounds,
        labels=SETS * images * STUDENT_EPOCHS * TEACHERS * 0.5 * hour,  # by one process
        students=SETS * STUDENTS * images * STUDENT_EPOCHS * 1.5 * hour / training,
    )


def label_gigabytes(ipc: int, sets: int = SETS) -> float:
    """Stored labels: a float16 for each class, view and image."""
    return sets * CLASSES * ipc * STUDENT_EPOCHS * CLASSES * 2 / 1e9


def shown(value: float) -> str:
    """Two digits."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def columns(found: Hours) -> list[str]:
    """The cells of a table."""
    return [shown(one) for one in (found.teachers, found.synthesis, found.labels, found.students, found.total)]


def main() -> None:
    """Print the hours of each stage."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--ms", type=float, default=CDA, help="milliseconds for an image, iteration and teacher")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--gpus", type=int, default=1)
    args = parser.parse_args()
    for name, value in zip(
        ("teachers", "synthesis", "labels", "students", "total"), columns(hours(**vars(args))), strict=True
    ):
        print(f"{name:10}{value:>8} hours")
    print(f"{'labels':10}{label_gigabytes(args.ipc):8.0f} GB on disk")


if __name__ == "__main__":
    main()
