"""The student's losses against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from teddy.labels.sources import HardLabels, soft_label_kl


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kl_is_its_definition(temperature: float) -> None:
    student, teacher = torch.randn(6, 5).double(), torch.randn(6, 5).double() * 5
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    expected = (p * (p / q).log()).sum() / 6
    assert soft_label_kl(student, teacher, temperature).item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-7)
    reference = nn.KLDivLoss(reduction="batchmean")(q.log(), p)
    assert soft_label_kl(student, teacher, temperature).item() == pytest.approx(reference.item(), rel=1e-4, abs=1e-7)


def test_kl_is_zero_for_equal_predictions_and_ignores_a_shift() -> None:
    logits = torch.randn(4, 7)
    assert soft_label_kl(logits + 3, logits, 20.0).item() == pytest.approx(0, abs=1e-6)


def test_kl_of_bfloat16_logits_is_computed_in_float32() -> None:
    student, teacher = torch.randn(4, 7).bfloat16(), torch.randn(4, 7).half()
    loss = soft_label_kl(student, teacher, 20.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, soft_label_kl(student.float(), teacher.float(), 20.0))


def test_gradient_has_no_temperature_squared() -> None:
    student, teacher = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    (gradient,) = torch.autograd.grad(soft_label_kl(student, teacher, 20.0), student)
    expected = ((student / 20).softmax(1) - (teacher / 20).softmax(1)) / (3 * 20)
    torch.testing.assert_close(gradient, expected.detach())


def test_ce_of_mixed_labels_is_the_mix_of_ces() -> None:
    logits, own, partner = torch.randn(6, 5), torch.randint(0, 5, (6,)), torch.randint(0, 5, (6,))
    eye = torch.eye(5)
    mixed = HardLabels(own, 5).loss(logits, 0.3 * eye[own] + 0.7 * eye[partner])
    ce = nn.CrossEntropyLoss()
    torch.testing.assert_close(mixed, 0.3 * ce(logits, own) + 0.7 * ce(logits, partner))
