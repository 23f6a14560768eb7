"""Coresets by scores against float64 computations image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from teddy.config.errors import UserError
from teddy.methods import scores
from teddy.methods.scores import EL2N, CADPrune, load_scores
from tests.methods.test_run import DEVICE, inputs, run_in  # noqa: F401 - a fixture


def slow_predictions(inputs) -> np.ndarray:  # noqa: F811
    """p(.|x) of every member for every image, (members, N, classes)."""
    found = []
    for member in range(len(inputs.pool)):
        network = inputs.pool.load(member).double()
        pixels = [(image.double() / 255 - 0.4) / 0.3 for image in inputs.train.images]
        found.append([torch.softmax(network(image[None])[0], 0).tolist() for image in pixels])
    return np.array(found)


def test_scores_are_those_of_each_image_alone(inputs, monkeypatch):  # noqa: F811
    monkeypatch.setattr("teddy.data.batches.EVAL_BATCH", 7)
    found, slow = load_scores(inputs, DEVICE), slow_predictions(inputs)
    labels = inputs.train.labels.numpy()
    assert found["probability"].dtype == found["el2n"].dtype == torch.float32
    assert np.allclose(found["probability"], slow[:, np.arange(60), labels], atol=1e-6)
    assert np.allclose(found["el2n"], np.sqrt(((slow - np.eye(3)[labels]) ** 2).sum(-1)), atol=1e-6)


def test_scores_are_measured_once_for_all_methods(inputs, tmp_path, monkeypatch):  # noqa: F811
    EL2N(ipc=2).synthesize(inputs, run_in(tmp_path / "one"))
    monkeypatch.setattr(scores, "measure", lambda *args: pytest.fail("they are in the store"))
    CADPrune(ipc=3, window=2, last=1).synthesize(inputs, run_in(tmp_path / "other"))


def test_el2n_takes_the_easiest_images_of_each_class(inputs, tmp_path):  # noqa: F811
    made = EL2N(ipc=4).synthesize(inputs, run_in(tmp_path / "run"))
    assert made.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    train, slow = inputs.train, slow_predictions(inputs)
    for label in range(3):
        errors = slow - np.eye(3)[label]
        mean = [np.mean([np.linalg.norm(errors[k, i]) for k in range(4)]) for i in range(60)]
        easiest = sorted(range(label, 60, 3), key=lambda i: mean[i])[:4]
        assert torch.equal(made.images[made.labels == label], train.images[easiest])


@pytest.mark.parametrize(("window", "last"), [(2, 1), (2, 2), (3, 2), (3, 9), (4, 1)])
def test_cad_is_the_mean_of_the_last_deviations(inputs, tmp_path, window, last):  # noqa: F811
    made = CADPrune(ipc=3, window=window, last=last).synthesize(inputs, run_in(tmp_path / "run"))
    slow = slow_predictions(inputs)
    for label in range(3):
        cad = {}
        for i in range(label, 60, 3):
            deviations = [np.std(slow[k : k + window, i, label], ddof=1) for k in range(4 - window + 1)]
            cad[i] = np.mean(deviations[-last:])
        assert torch.equal(made.images[made.labels == label], inputs.train.images[sorted(cad, key=cad.get)[::-1][:3]])


def test_a_class_smaller_than_ipc_starts_over(inputs, tmp_path):  # noqa: F811
    made = EL2N(ipc=22).synthesize(inputs, run_in(tmp_path / "run"))
    assert len(made.images[:20].unique(dim=0)) == 20
    assert torch.equal(made.images[20:22], made.images[:2])


def test_a_pool_too_small_for_cad_is_refused():
    method = CADPrune(ipc=1, window=3, last=2)
    method.check(None)
    method.check(3)
    with pytest.raises(UserError, match=r"methods\.cad_prune\.window=3 is more than the pool's 2 teachers; lower it"):
        method.check(2)
    with pytest.raises(
        UserError, match="window=3 is more than the pool's 1 teachers; lower it, to 2 at least, or enlarge"
    ):
        method.check(1)


def test_a_pool_whose_size_was_unknown_is_refused_later(inputs, tmp_path):  # noqa: F811
    with pytest.raises(UserError, match="the pool's 4 teachers"):
        CADPrune(ipc=1, window=5, last=1).synthesize(inputs, run_in(tmp_path / "run"))
