"""What the tests of methods with an inner training share: a toy pool of trajectories, and a state in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from teddy.artifacts.store import ArtifactStore
from teddy.data.dataset import RealDataset
from teddy.data.dsa import dsa
from teddy.methods.unrolled import Unrolled
from teddy.models.networks import build_network
from teddy.models.stateless import StatelessNetwork
from teddy.pool.members import Member, ModelPool, Trajectory
from teddy.runtime import seeding
from teddy.runtime.resume import save_tensors
from teddy.synthesis.blocks import make_blocks
from teddy.synthesis.method import Inputs
from teddy.synthesis.optimized import State
from tests.synthesis.conftest import ToySource

NETWORK = "convnet1_w4_in"


def toy_inputs(folder: Path, epochs: int = 3) -> Inputs:
    """Two trajectories, each a random walk from an untrained network."""
    dataset, trajectories = RealDataset("toy", ToySource(), mean=[0.4], std=[0.3]), []
    for seed in (5, 6):
        weights, members = build_network(NETWORK, 3, 1, 8, seed).state_dict(), []
        for epoch in range(1, epochs + 1):
            draws = torch.Generator().manual_seed(100 * seed + epoch)
            weights = {name: one + 0.05 * torch.randn(one.shape, generator=draws) for name, one in weights.items()}
            path = folder / f"{seed}-{epoch}.safetensors"
            save_tensors(path, weights)
            members.append(Member(NETWORK, path, epoch, f"{seed}/{epoch}", 50.0))
        trajectories.append(Trajectory(tuple(members), dataset.spec, seed))
    lasts = tuple(one.members[-1] for one in trajectories)
    pool = ModelPool(lasts, dataset.spec, "experts", trajectories=tuple(trajectories))
    return Inputs(dataset, ArtifactStore(folder / "store"), lambda: pool)


def double_state(method: Unrolled, network: str = NETWORK) -> Any:
    """The start of a method with random pixels, all in float64."""
    (block,) = make_blocks(3, method.ipc, 3 * method.ipc)
    draws = torch.Generator().manual_seed(0)
    pixels = nn.Parameter(torch.randn(len(block), 1, 8, 8, dtype=torch.float64, generator=draws))
    shared = type("Shared", (), {"network": StatelessNetwork(build_network(network, 3, 1, 8, seed=1).double())})
    state = method.setup(State([block], pixels, torch.tensor(block.classes), 3, shared, 1))
    state.rate = nn.Parameter(state.rate.detach().double())
    return state


def random_weights(seed: int, network: str = NETWORK) -> torch.Tensor:
    """Weights (P,) in float64."""
    return StatelessNetwork(build_network(network, 3, 1, 8, seed)).initial.double()


def trained(
    method: Unrolled, pixels: torch.Tensor, rate: float, weights: torch.Tensor, labels: torch.Tensor, network: str
) -> nn.Module:
    """A student after the inner steps of iteration 7 by torch's own optimizer; written for batches that divide the set."""
    student = build_network(network, 3, 1, 8).double().train()
    nn.utils.vector_to_parameters(weights.clone(), student.parameters())
    sgd = torch.optim.SGD(student.parameters(), lr=rate)
    size = method.batch_syn or len(labels)
    for index in range(method.inner_steps):
        chosen = torch.arange(len(labels))
        if size < len(labels):
            turn, part = index // (len(labels) // size), index % (len(labels) // size)
            order = seeding.permutation(len(labels), 3, "inner batch", 7, turn)
            chosen = torch.from_numpy(order[part * size : (part + 1) * size])
        images = pixels[chosen]
        if method.strategy != "none":
            images = dsa(images, 3, "inner step", 7, index, strategy=method.strategy)
        sgd.zero_grad()
        nn.functional.cross_entropy(student(images), labels[chosen]).backward()
        sgd.step()
    return student


def assert_slopes(loss: Any, pixels: torch.Tensor, rate: float, by_pixels: torch.Tensor, by_rate: torch.Tensor) -> None:
    """The gradients of ``loss(pixels, rate)`` agree with its central differences, along the rate and random directions."""
    step = 1e-6  # so small that no ReLU changes sides
    slope = (loss(pixels, rate + step) - loss(pixels, rate - step)) / (2 * step)
    assert torch.allclose(by_rate, torch.tensor(slope, dtype=torch.float64), rtol=1e-5)
    for seed in range(3):
        draws = torch.Generator().manual_seed(seed)
        way = torch.randn(pixels.shape, dtype=torch.float64, generator=draws)
        slope = (loss(pixels + step * way, rate) - loss(pixels - step * way, rate)) / (2 * step)
        assert torch.allclose((by_pixels * way).sum(), torch.tensor(slope, dtype=torch.float64), rtol=1e-4)
