"""Images and FKD labels as the validation scripts of SRe2L read them; of the images, RDED's as well.

SRe2L (Yin et al., NeurIPS 2023; ``relabel/`` and ``validate/train_FKD.py`` of its code) keeps for each epoch and batch one list:

- crops (B, 4), float32: top, left, height and width as shares of the image's sides;
- flips (B,), bool;
- the permutation of the batch (B,), the ratio and the box (first and last row, first and last column) of its CutMix;
- logits (B, classes), float16.

A batch holds the images that torch's ``RandomSampler`` draws, with one generator of seed 42 for all epochs. CutMix has one ratio,
box and permutation for a batch, unlike ours. Pillow cuts and scales the views in 8 bits; the teachers label these very pixels.
RDED's script labels with its own teacher and reads the images, whose folders are class indices of five digits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import BatchSampler, RandomSampler
from torchvision.transforms.functional import to_pil_image

from teddy.config.errors import UserError
from teddy.data import geometry
from teddy.data.images import TensorImages, to_tensor
from teddy.export.imagefolder import copy_images
from teddy.labels.mixing import MIX_DRAWS, beta_quantile
from teddy.labels.sources import FixedLabels, LabelSource, OnlineLabels
from teddy.runtime import seeding
from teddy.runtime.progress import StageProgress
from teddy.sets.description import LabelFacts
from teddy.sets.folder import SetFolder

SEED = 42  # ``--fkd-seed`` of SRe2L's scripts


def export(
    opened: SetFolder, out: Path, source: LabelSource, device: torch.device, epochs: int, batch_size: int
) -> str:
    """Write ``images/<class index>/`` and ``labels/epoch_<n>/batch_<n>.tar``, which the set's teachers on ``device`` give.

    UserError if the set holds no teachers, or a logit is not finite in float16.
    """
    if not isinstance(source, OnlineLabels | FixedLabels):
        raise UserError(
            f"{opened.path} holds no teachers, and FKD's views need labels of their own; make the set again with a protocol of "
            "soft labels and labels=online, which puts its teachers into its folder."
        )
    copy_images(opened, out / "images", [f"{label:05d}" for label in range(opened.spec.num_classes)])
    facts, images = opened.description.labels, opened.images
    order = RandomSampler(images, generator=torch.Generator().manual_seed(SEED))
    with StageProgress("FKD labels", epochs * len(images), "views") as progress:
        for epoch in range(epochs):
            folder = out / "labels" / f"epoch_{epoch}"
            folder.mkdir(parents=True)
            for number, indices in enumerate(BatchSampler(order, batch_size, drop_last=False)):
                pixels, recipe = _views(images, np.array(indices), facts, epoch, number)
                logits = source.labeller(opened.spec.normalise(pixels.to(device))).half().cpu()
                if not bool(logits.isfinite().all()):
                    raise UserError("the teachers' logits are not finite in float16; make the set with other teachers.")
                torch.save([*recipe, logits], folder / f"batch_{number}.tar")
                progress.advance(len(indices))
    mix = "--mix-type cutmix " if facts.view.mix == "cutmix" else ""
    return (
        f"python train_FKD.py --train-dir {out / 'images'} --fkd-path {out / 'labels'}/ --batch-size "
        f"{min(batch_size, len(images))} --epochs {epochs} {mix}-T {facts.temperature:g} --cos"
    )


def _views(
    images: TensorImages, indices: np.ndarray, facts: LabelFacts, epoch: int, number: int
) -> tuple[torch.Tensor, list[Any]]:
    """The mixed views of a batch, uint8 (B, C, H, W), and what they are made again from: crops, flips, and the CutMix."""
    size, view, seed = images.images.shape[-1], facts.view, facts.seed
    uniforms = seeding.uniform(seed, "fkd", "crop", epoch, samples=indices, draws=geometry.CROP_DRAWS + 1)
    boxes = geometry.crop_boxes(uniforms[:, :-1], size, size, view.min_scale)
    flips = torch.from_numpy(uniforms[:, -1] < view.flip)
    cut = []
    for image, (top, left, height, width) in zip(images.take(indices), boxes.tolist(), strict=True):
        part = to_pil_image(image).crop((left, top, left + width, top + height))
        cut.append(to_tensor(part.resize((size, size), Image.Resampling.BILINEAR)))
    pixels = geometry.flip(torch.stack(cut), flips)
    mix: list[Any] = [None, None, None]
    if view.mix == "cutmix":
        draws = seeding.uniform(seed, "fkd", "mix", epoch, number, draws=MIX_DRAWS)[0]
        ratio = float(beta_quantile(draws[:1], view.alpha)[0])
        half = int(size * (1 - ratio) ** 0.5) // 2
        row, column = (int(draw * size) for draw in draws[1:])
        first, start = max(row - half, 0), max(column - half, 0)
        last, end = min(row + half, size), min(column + half, size)
        partner = torch.from_numpy(seeding.permutation(len(indices), seed, "fkd", "partners", epoch, number))
        pixels[:, :, first:last, start:end] = pixels[partner, :, first:last, start:end]
        mix = [partner, ratio, [first, start, last, end]]
    return pixels, [boxes.float() / size, flips, *mix]
