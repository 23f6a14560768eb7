"""The formats of stored labels: the k largest logits and one for the rest, at the run's temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from teddy.config.errors import UserError
from teddy.labels.compression import AllLogits, Compression, TopK, compression
from teddy.labels.sources import soft_label_kl

CPU = torch.device("cpu")
HALF = 2.0**-11
"""The largest relative error of rounding to float16."""


def logits(batch: int = 64, classes: int = 100, spread: float = 4.0) -> torch.Tensor:
    return spread * torch.randn(batch, classes, generator=torch.Generator().manual_seed(0))


def read_back(form: Compression, values: torch.Tensor) -> torch.Tensor:
    return form.unpack(form.pack(values), CPU)


def slow(row: list[float], k: int, temperature: float) -> list[float]:
    """The same in the plainest Python, with exact sums of masses."""
    largest = sorted(range(len(row)), key=lambda index: -row[index])[:k]
    others = [value for index, value in enumerate(row) if index not in largest]
    mass = math.fsum(math.exp(value / temperature) for value in others)
    rest = temperature * math.log(mass / len(others))
    return [value if index in largest else rest for index, value in enumerate(row)]


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("k", [1, 5, 99])
def test_it_is_the_slow_version_rounded(k: int, temperature: float) -> None:
    values = logits()
    expected = torch.tensor([slow(row, k, temperature) for row in values.tolist()])
    torch.testing.assert_close(read_back(TopK(100, k, temperature), values), expected, rtol=HALF, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("k", [1, 3, 10, 50])
def test_the_kept_classes_have_their_probabilities_and_the_rest_their_mass(k: int, temperature: float) -> None:
    values = logits()
    exact = torch.softmax(values.double() / temperature, dim=1)
    stored = torch.softmax(read_back(TopK(100, k, temperature), values).double() / temperature, dim=1)
    top = values.topk(k).indices
    # A logit z moves by z * HALF at most, so a ratio of probabilities by twice the largest of that over T.
    bound = math.exp(2 * values.abs().max().item() * HALF / temperature) - 1
    torch.testing.assert_close(stored.gather(1, top), exact.gather(1, top), rtol=bound, atol=0)
    rest = [1 - some.gather(1, top).sum(1) for some in (stored, exact)]
    torch.testing.assert_close(rest[0], rest[1], rtol=bound, atol=1e-12)
    outside = torch.ones_like(stored, dtype=torch.bool).scatter_(1, top, False)
    shares = stored[outside].view(64, 100 - k)
    torch.testing.assert_close(shares, shares.mean(1, keepdim=True).expand_as(shares), rtol=1e-12, atol=0)


def test_renormalising_what_is_kept_would_lose_nearly_all_at_a_high_temperature() -> None:
    """The reason for the rest: at T = 20 the largest logits hold little of the mass."""
    kept = torch.softmax(logits(classes=1000) / 20, dim=1).topk(10).values.sum(1)
    assert kept.max() < 0.03


def test_a_flat_rest_gives_the_loss_and_the_gradient_of_the_full_labels() -> None:
    values = torch.full((8, 50), -1.5)  # in float16 exactly, as are the halves below
    values[:, 10:14] = torch.tensor([6.0, 3.5, 0.5, -1.0])
    gradients = []
    for target in (read_back(AllLogits(50), values), read_back(TopK(50, 4, 20.0), values)):
        student = logits(8, 50).requires_grad_()
        loss = soft_label_kl(student, target, 20.0)
        loss.backward()
        gradients.append((loss.detach(), student.grad))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-9)


def test_no_flat_rest_is_nearer_to_the_full_labels() -> None:
    """The even share of the mass is the best that one number for the rest can do, by KL divergence at T."""
    values = logits(16, 20, spread=2.0)
    form = TopK(20, 4, 2.0)
    stored = read_back(form, values)
    top = stored.eq(read_back(form, values).min(1, keepdim=True).values)  # every rest is below what is kept
    assert top.sum(1).tolist() == [16] * 16
    best = soft_label_kl(stored, values, 2.0)
    for step in (-0.1, -0.01, 0.01, 0.1):
        assert soft_label_kl(stored + step * top, values, 2.0) > best


def test_all_but_one_is_all() -> None:
    values = logits(classes=10)
    assert torch.equal(read_back(TopK(10, 9, 20.0), values), read_back(AllLogits(10), values))


def test_equal_logits_are_kept_in_the_order_of_their_classes() -> None:
    parts = TopK(6, 3, 20.0).pack(torch.tensor([[1.0, 2.0, 2.0, 2.0, 2.0, 0.0]]))
    assert parts["classes"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(("classes", "number"), [(2, "u1"), (256, "u1"), (257, "<u2"), (65536, "<u2"), (65537, "<u4")])
def test_class_numbers_take_the_smallest_type_that_fits(classes: int, number: str) -> None:
    form = TopK(classes, 1, 20.0)
    assert form.parts["classes"].base == np.dtype(number)
    values = torch.zeros(1, classes)
    values[0, -1] = 1.0
    assert torch.equal(read_back(form, values), values)


def test_sizes_are_those_of_the_arrays() -> None:
    for form, size in ((AllLogits(1000), 2000), (TopK(1000, 10, 20.0), 42), (TopK(10, 3, 20.0), 11)):
        parts = form.pack(logits(7, form.num_classes))
        assert sum(part.nbytes for part in parts.values()) == 7 * size
        assert {name: (part.dtype, part.shape[1:]) for name, part in parts.items()} == {
            name: (kind.base, kind.shape) for name, kind in form.parts.items()
        }
        assert form.megabytes(300, 7) == pytest.approx(300 * 7 * size / 1e6)


def test_the_parts_are_the_largest_logits_their_classes_and_a_smaller_one() -> None:
    values = logits(classes=10)
    parts, top = TopK(10, 2, 20.0).pack(values), values.topk(2)
    assert torch.equal(torch.from_numpy(parts["logits"]), top.values.half())
    assert parts["classes"].tolist() == top.indices.tolist()
    assert (parts["rest"] < parts["logits"].min(1)).all()


def test_teachers_in_half_precision_are_summed_in_full() -> None:
    values = logits().bfloat16()
    assert torch.equal(read_back(TopK(100, 5, 20.0), values), read_back(TopK(100, 5, 20.0), values.float()))


def test_the_form_that_was_asked_for() -> None:
    assert isinstance(compression(10, None, 20.0), AllLogits)
    some = compression(10, 3, 20.0)
    assert isinstance(some, TopK)
    assert some.title == "the 3 largest of 10 logits of a view, and one for the rest"
    for k in (0, 10, 11):
        with pytest.raises(UserError, match=rf"labels\.top_k={k} must be at least 1 and less than the 10 classes"):
            compression(10, k, 20.0)
