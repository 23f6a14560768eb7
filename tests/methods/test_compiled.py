"""Compiled teachers against the ones that are run operation by operation."""

import copy
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from torch import nn

from teddy.config.errors import StageFailed
from teddy.methods.compiled import compiled_losses
from teddy.methods.teddy import ensemble_gradient, teacher_losses
from teddy.models.networks import build_network

HEADERS = Path(sysconfig.get_path("include")) / "Python.h"


def teachers() -> list[nn.Module]:
    made = []
    for seed in range(2):
        network = build_network("convnet2_w4", num_classes=3, channels=3, size=8, seed=seed)
        draws = torch.Generator().manual_seed(seed)
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.copy_(0.3 * torch.randn(layer.num_features, generator=draws))
                layer.running_var.copy_(torch.rand(layer.num_features, generator=draws) + 0.5)
        made.append(network.eval().requires_grad_(False))
    return made


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler, and there is no g++ here")
@pytest.mark.skipif(not HEADERS.is_file(), reason=f"compiling needs Python's headers, and there is no {HEADERS}")
def test_compiled_teachers_share_one_graph_and_give_the_terms_and_gradient_of_eager_ones():
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    images, labels = images.contiguous(memory_format=torch.channels_last), torch.tensor([0, 1, 2, 0, 1, 2])
    networks = teachers()
    before = copy.deepcopy(networks[0].state_dict())
    torch.compiler.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled = compiled_losses(networks, 10.0)
    eager = teacher_losses([copy.deepcopy(network) for network in networks], 10.0)
    (ours, our_terms), (theirs, their_terms) = (
        ensemble_gradient([(one, [0, 1]) for one in teachers], images, labels, 0.7, 0.3, blocks=2)
        for teachers in (compiled, eager)
    )
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())
    assert torch.allclose(our_terms.total, their_terms.total, rtol=1e-5)
    assert torch.allclose(our_terms.bn, their_terms.bn, rtol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1  # for both teachers
    assert not counters["graph_break"]
    assert all(torch.equal(before[key], value) for key, value in networks[0].state_dict().items())


def test_a_machine_that_cannot_compile_is_told_what_to_do(monkeypatch):
    def graph(*args):
        raise torch._dynamo.exc.BackendCompilerFailed("inductor", RuntimeError("no g++"), None)

    monkeypatch.setattr(torch, "compile", lambda function, **options: graph)
    loss = compiled_losses(teachers(), 10.0)[0]
    with pytest.raises(StageFailed, match=r"install a C\+\+ compiler .* synthesis.compile=false"):
        loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.long), blocks=1)
