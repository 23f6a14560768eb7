"""Top-1 accuracy of a network over a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torchmetrics.functional.classification import multiclass_accuracy

from teddy.runtime.precision import Compute


@torch.inference_mode()
def top1(
    network: nn.Module,
    batches: Iterable[Sequence[torch.Tensor]],
    normalise: Callable[[torch.Tensor], torch.Tensor],
    num_classes: int,
    compute: Compute,
) -> float:
    """Share of right answers in percent; the network is put back into the mode it came in.

    Args:
        batches: tuples whose first two members are uint8 images (n, C, H, W) and labels (n,).
        normalise: uint8 images to network input.
    """
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    guesses, truth = [], []
    for images, labels, *_ in batches:
        inputs = normalise(images.to(device)).contiguous(memory_format=torch.channels_last)
        with compute.autocast():
            guesses.append(network(inputs).argmax(dim=1))
        truth.append(labels.to(device))
    network.train(training)
    return 100 * float(multiclass_accuracy(torch.cat(guesses), torch.cat(truth), num_classes, average="micro"))
