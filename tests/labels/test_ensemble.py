"""The pool's average prediction."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from teddy.config.errors import BadInput
from teddy.labels.ensemble import PoolLabeller, average_logits


def test_mean_of_logits() -> None:
    members = [torch.randn(4, 6) for _ in range(3)]
    torch.testing.assert_close(average_logits(iter(members)), sum(members) / 3)
    assert average_logits([members[0].bfloat16()]).dtype == torch.float32


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_mean_of_probabilities(temperature: float) -> None:
    members = [torch.randn(4, 6) * 10 for _ in range(3)]
    logits = average_logits(members, "probabilities", temperature)
    expected = sum((member / temperature).softmax(1) for member in members) / 3
    torch.testing.assert_close((logits / temperature).softmax(1), expected)
    impossible = average_logits([torch.tensor([[0.0, -1e4]])] * 2, "probabilities", 1.0)
    torch.testing.assert_close(impossible, torch.tensor([[0.0, -1e4]]))


def teachers(n: int = 3) -> list[nn.Module]:
    torch.manual_seed(0)
    make = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 5)
    )
    return [make() for _ in range(n)]


def test_labeller_is_the_mean_over_teachers_in_chunks() -> None:
    pool, images = teachers(), torch.randn(10, 3, 8, 8)
    logits = PoolLabeller(pool, batch_size=4)(images)
    with torch.no_grad():
        expected = sum(teacher.eval()(images) for teacher in pool) / 3
    torch.testing.assert_close(logits, expected)
    assert logits.dtype == torch.float32


def test_labels_can_be_learned_from() -> None:
    logits = PoolLabeller(teachers())(torch.randn(2, 3, 8, 8))
    assert not logits.is_inference()
    student = torch.zeros(2, 5, requires_grad=True)
    (student * logits).sum().backward()
    assert torch.equal(student.grad, logits)


def test_labelling_leaves_the_teachers_as_they_were() -> None:
    pool = teachers(1)
    before = {name: value.clone() for name, value in pool[0].state_dict().items()}
    PoolLabeller(pool)(torch.randn(6, 3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in pool[0].state_dict().items())


def test_autocast_changes_the_arithmetic_not_the_type() -> None:
    pool, images = teachers(), torch.randn(4, 3, 8, 8)
    exact, rough = PoolLabeller(pool)(images), PoolLabeller(pool, precision=torch.bfloat16)(images)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(exact, rough, atol=0.05, rtol=0.05)


def test_refusals() -> None:
    with pytest.raises(BadInput, match=r"labels\.average=median"):
        PoolLabeller(teachers(1), average="median")
    with pytest.raises(BadInput, match=r"labels\.average=median"):
        average_logits([torch.zeros(1, 2)], "median")
    with pytest.raises(BadInput, match=r"labels\.members"):
        PoolLabeller([])
