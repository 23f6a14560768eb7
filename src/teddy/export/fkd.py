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

from teddy.config.errors import UserError
from teddy.data import geometry
from teddy.data.images import open_image, to_tensor
from teddy.export.imagefolder import about, copy_images, image_files
from teddy.export.teachers import Labeller
from teddy.labels.mixing import MIX_DRAWS, beta_quantile
from teddy.runtime import seeding
from teddy.runtime.progress import StageProgress
from teddy.sets.folder import SetFolder

SEED = 42
"""``--fkd-seed`` of SRe2L's scripts."""


def export(opened: SetFolder, out: Path, labeller: Labeller, epochs: int, batch_size: int) -> str:
    """Write ``images/<class index>/`` and ``labels/epoch_<n>/batch_<n>.tar``.

    Raises:
        UserError: a logit is not finite in float16.
    """
    copy_images(opened, out / "images", lambda label: f"{label:05d}")
    images = []
    for file, _ in image_files(opened):
        with open_image(file, str(file)) as image:
            images.append(image.copy())
    order = RandomSampler(images, generator=torch.Generator().manual_seed(SEED))
    batches = BatchSampler(order, batch_size, drop_last=False)
    with StageProgress("FKD labels", epochs * len(images), "views") as progress:
        for epoch in range(epochs):
            folder = out / "labels" / f"epoch_{epoch}"
            folder.mkdir(parents=True)
            for number, indices in enumerate(batches):
                *facts, logits = _batch(opened, images, np.array(indices), epoch, number, labeller)
                if not bool(logits.isfinite().all()):
                    raise UserError(
                        f"the teachers' logits in epoch {epoch} are not finite in float16; make the set with other teachers."
                    )
                torch.save([*facts, logits], folder / f"batch_{number}.tar")
                progress.advance(len(indices))
    mix = "--mix-type cutmix " if opened.description.labels.view.mix == "cutmix" else ""
    command = (
        f"python train_FKD.py --train-dir {out / 'images'} --fkd-path {out / 'labels'}/ --batch-size "
        f"{min(batch_size, len(images))} --epochs {epochs} {mix}-T {opened.description.labels.temperature:g} --cos"
    )
    (out / "README.md").write_text(f"{about(opened)}\nSRe2L's validate/:\n\n    {command}\n")
    return command


def _batch(
    opened: SetFolder, images: list[Image.Image], indices: np.ndarray, epoch: int, number: int, labeller: Labeller
) -> list[Any]:
    """The list that is kept for a batch of the images ``indices`` (B,)."""
    spec, view, seed = opened.spec, opened.description.labels.view, opened.description.labels.seed
    uniforms = seeding.uniform(seed, "fkd", "crop", epoch, samples=indices, draws=geometry.CROP_DRAWS + 1)
    boxes = geometry.crop_boxes(uniforms[:, :-1], spec.size, spec.size, view.min_scale)
    flips = torch.from_numpy(uniforms[:, -1] < view.flip)
    cut = []
    for index, (top, left, height, width) in zip(indices, boxes.tolist(), strict=True):
        part = images[index].crop((left, top, left + width, top + height))
        cut.append(to_tensor(part.resize((spec.size, spec.size), Image.Resampling.BILINEAR)))
    pixels = geometry.flip(torch.stack(cut), flips)
    mix: list[Any] = [None, None, None]
    if view.mix == "cutmix":
        draws = seeding.uniform(seed, "fkd", "mix", epoch, number, draws=MIX_DRAWS)[0]
        ratio = float(beta_quantile(draws[:1], view.alpha)[0])
        half = int(spec.size * (1 - ratio) ** 0.5) // 2
        top, left = (int(draw * spec.size) for draw in draws[1:])
        edges = [top - half, left - half, top + half, left + half]
        first, start, last, end = (min(max(edge, 0), spec.size) for edge in edges)
        partner = torch.from_numpy(seeding.permutation(len(indices), seed, "fkd", "partners", epoch, number))
        pixels[:, :, first:last, start:end] = pixels[partner, :, first:last, start:end]
        mix = [partner, ratio, [first, start, last, end]]
    return [boxes.float() / spec.size, flips, *mix, labeller(spec.normalise(pixels)).half().cpu()]
