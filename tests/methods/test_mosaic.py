"""Mosaics of real images, through the stage to what labels and students see."""

from __future__ import annotations

import torch
from PIL import Image
from torch.nn import functional as F

from teddy.artifacts.store import ArtifactStore
from teddy.labels.stage import hard_labels
from teddy.labels.views import Views
from teddy.methods.mosaic import Mosaic
from teddy.methods.random import Random
from teddy.runtime.loggers import RunLog
from teddy.synthesis.init import random_images
from teddy.synthesis.stage import synthesize
from tests.methods.test_run import DEVICE, inputs  # noqa: F401 - a fixture


def test_students_see_the_random_images_that_a_mosaic_holds(inputs, tmp_path):  # noqa: F811
    made = synthesize(
        ArtifactStore(tmp_path), Mosaic(ipc=2, tiles=2), inputs, DEVICE, seed=5, log=RunLog(tmp_path), name=""
    )
    for folder in ("0_a", "1_b", "2_c"):
        files = sorted((made.folder / folder).iterdir())
        assert [Image.open(file).size for file in files] == [(8, 8)] * 2, "IPC images are stored"
    real = inputs.train.images[random_images(inputs.train, range(3), 8, 5).flatten()].double()
    small = F.interpolate(real, size=(4, 4), mode="bilinear", align_corners=False)
    blurred = F.interpolate(small, size=(8, 8), mode="bilinear", align_corners=False)
    assert (made.images.images.double() - blurred).abs().max() <= 1 + 1e-6, "two roundings"
    assert made.images.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    everything = torch.arange(24)
    unmixed = Views(torch.empty(0), partner=everything, keep=torch.ones(24))
    targets = hard_labels(made).source().targets(everything, unmixed)
    assert torch.equal(targets.argmax(1), made.images.labels)


def test_one_tile_is_the_image_itself(inputs, tmp_path):  # noqa: F811
    store, options = ArtifactStore(tmp_path), dict(seed=5, log=RunLog(tmp_path), name="")
    mosaic = synthesize(store, Mosaic(ipc=2, tiles=1), inputs, DEVICE, **options)
    random = synthesize(store, Random(ipc=2), inputs, DEVICE, **options)
    assert torch.equal(mosaic.images.images, random.images.images)
