"""What a method may read."""

from __future__ import annotations

import torch

from teddy.artifacts.store import ArtifactStore
from teddy.data.datamodule import stratified_split
from teddy.data.dataset import RealDataset
from teddy.synthesis.method import Inputs, Needs
from tests.synthesis.conftest import ToySource


def test_held_out_images_are_not_among_the_real_ones(tmp_path) -> None:
    dataset = RealDataset("toy", ToySource(), mean=[0.4], std=[0.3])
    held_out = Inputs(dataset, ArtifactStore(tmp_path), lambda: None, holdout=0.2, holdout_seed=3)
    kept, held = stratified_split(dataset.train.labels, 0.2, 3)
    assert torch.equal(held_out.train.labels, dataset.train.labels[kept])
    assert torch.equal(held_out.train.take(torch.arange(len(kept))), dataset.train.take(kept))
    assert not set(kept) & set(held)
    everything = Inputs(dataset, ArtifactStore(tmp_path), lambda: None)
    assert len(everything.train) == 60
    names = {str(one.fingerprints(Needs(data=True))) for one in (held_out, everything)}
    assert len(names) == 2, "other images, other fingerprint"
