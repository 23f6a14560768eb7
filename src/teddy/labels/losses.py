"""What a student minimises on labelled views."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def soft_label_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL divergence of the student's softened prediction from the teachers', mean over the batch, in float32.

    ``1/B * sum_b KL(softmax(t_b / T) || softmax(s_b / T))``, without the factor T² of Hinton et al.: AdamW
    divides a constant factor out again, and FKD, which the paper's protocol follows, has none. With SGD the
    factor would act as a learning rate.

    Args:
        student_logits: (B, C); ``teacher_logits`` likewise.
        temperature: T, above 0.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def hard_label_ce(logits: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of ``logits`` against ``probabilities``, both (B, C), batch mean, in float32."""
    return F.cross_entropy(logits.float(), probabilities.float())
