"""The Lightning module against the same optimisation written as a plain loop."""

import dataclasses
import math

import pytest
import torch

from teddy.data.images import TensorImages
from teddy.data.spec import DatasetSpec
from teddy.models.networks import build_network
from teddy.pool.members import Member, ModelPool
from teddy.runtime.precision import Compute
from teddy.runtime.resume import load_tensors, save_tensors
from teddy.synthesis import initial
from teddy.synthesis.blocks import TEACHER_POLICIES
from teddy.synthesis.job import SynthesisJob
from teddy.synthesis.module import block_file, is_flat
from teddy.synthesis.objective import Weights, teacher_terms
from teddy.synthesis.perturb import BlockView
from teddy.synthesis.ranks import optimise_blocks
from teddy.synthesis.statistics import MatchedTeacher

SPEC = DatasetSpec("toy", 3, 1, 8, (0.4,), (0.3,), ("a", "b", "c"), ("0_a", "1_b", "2_c"))
COMPUTE = Compute("cpu", "float32")


@pytest.fixture
def job(tmp_path) -> SynthesisJob:
    members = []
    for seed in range(4):
        network = build_network("convnet2_w4", 3, 1, 8, seed=seed)
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_var.fill_(0.5 + 0.1 * seed)
        path = tmp_path / f"teacher-{seed}.safetensors"
        save_tensors(path, network.state_dict())
        members.append(Member("convnet2_w4", path, seed + 1, f"toy/{seed}", 50.0, 50.0))
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return SynthesisJob(
        pool=ModelPool(tuple(members), SPEC, "toy"),
        train=TensorImages(images, torch.arange(3).repeat(20)),
        ipc=4,
        iterations=7,
        plateau=None,
        lr=0.1,
        betas=(0.5, 0.9),
        weight_decay=0.01,
        weights=Weights(ce=1.0, bn=0.5, first_bn=10.0),
        batch_size=6,
        class_order="consecutive",
        teachers_per_block=2,
        teacher_policy="iteration",
        initial="real",
        view=BlockView(crop=True, min_scale=0.5, flip=True, shift=1, per_image=False),
        seed=3,
        checkpoint_every=3,
        sheet_every=4,
        blocks_at_once=1,
        compile=False,
    )


def plain_loop(job: SynthesisJob) -> list[torch.Tensor]:
    """Each block's images as uint8, with torch's own cosine schedule and one backward of the summed loss."""
    low, high = SPEC.pixel_bounds()
    results = []
    for block in job.blocks():
        pixels = initial.real(block, SPEC, job.train, job.ipc, job.seed).requires_grad_()
        labels = torch.tensor(block.classes)
        adam = torch.optim.Adam([pixels], lr=job.lr, betas=job.betas, weight_decay=0.01)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=job.iterations)
        for iteration in range(job.iterations):
            chosen = TEACHER_POLICIES[job.teacher_policy](block, iteration, 4, 2, job.seed)
            view = job.view(pixels, job.seed, block.index, iteration)
            loss = sum(
                teacher_terms(MatchedTeacher(job.pool.load(member)), view, labels, job.weights).total
                for member in chosen
            )
            adam.zero_grad()
            loss.backward()
            adam.step()
            cosine.step()
            with torch.no_grad():
                pixels.copy_(torch.minimum(torch.maximum(pixels, low), high))
        results.append(SPEC.denormalise(pixels.detach()))
    return results


def test_blocks_are_those_of_the_plain_loop(job, tmp_path):
    optimise_blocks(job, tmp_path, COMPUTE, logger=None)
    for block, expected in zip(job.blocks(), plain_loop(job), strict=True):
        tensors, _ = load_tensors(block_file(tmp_path, block))
        # Adam divides by the root of tiny second moments, so a rounding difference may move a pixel by one level.
        assert (tensors["images"].int() - expected.int()).abs().max() <= 1
        assert (tensors["images"] == expected).float().mean() > 0.99
        assert tensors["labels"].tolist() == list(block.classes)


@pytest.mark.parametrize("policy", ["block", "iteration"])
def test_blocks_together_are_those_of_one_at_a_time(job, tmp_path, policy):
    """Six images per block, and a last block of three that goes alone."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir(), together.mkdir()
    one = dataclasses.replace(job, ipc=5, teacher_policy=policy)
    several = dataclasses.replace(one, blocks_at_once=2)
    assert [len(group) for group in several.groups()] == [2, 1]
    optimise_blocks(one, alone, COMPUTE, logger=None)
    optimise_blocks(several, together, COMPUTE, logger=None)
    for block in job.blocks():
        (first, first_notes), (second, second_notes) = (
            load_tensors(block_file(folder, block)) for folder in (alone, together)
        )
        # Adam divides by the root of tiny second moments, so a rounding difference may move a pixel by one level.
        assert (first["images"].int() - second["images"].int()).abs().max() <= 1
        assert (first["images"] == second["images"]).float().mean() > 0.99
        assert torch.equal(first["labels"], second["labels"])
        assert torch.equal(first["slots"], second["slots"])
        for ours, theirs in zip(first_notes["history"], second_notes["history"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)


def test_pixels_change_and_stay_displayable(job, tmp_path):
    optimise_blocks(job, tmp_path, COMPUTE, logger=None)
    tensors, notes = load_tensors(block_file(tmp_path, job.blocks()[0]))
    start = SPEC.denormalise(initial.real(job.blocks()[0], SPEC, job.train, job.ipc, job.seed))
    assert (tensors["images"] != start).float().mean() > 0.3
    rows = notes["history"]
    assert [row[0] for row in rows] == [0, 6]
    assert all(math.isfinite(value) for row in rows for value in row)
    assert rows[-1][1] < rows[0][1]


def test_a_block_ends_early_once_its_loss_has_stopped_falling(job, tmp_path):
    still = BlockView(crop=False, min_scale=1.0, flip=False, shift=0, per_image=False)
    steady = {"lr": 1e-6, "view": still, "teacher_policy": "block"}
    long = dataclasses.replace(job, iterations=1000, checkpoint_every=0, sheet_every=0, **steady)
    optimise_blocks(dataclasses.replace(long, plateau=0.05), tmp_path, COMPUTE, logger=None)
    for block in long.blocks():
        # Ten losses, twenty iterations apart, of which the last five are not below the first five.
        assert [row[0] for row in load_tensors(block_file(tmp_path, block))[1]["history"]] == list(range(0, 200, 20))


def test_flat_is_what_falls_by_less_than_the_plateau():
    assert not is_flat([1.0] * 9, 0.05)  # not yet
    assert is_flat([1.0] * 10, 0.05)
    assert is_flat([9.0, *[1.0] * 5, *[0.96] * 5], 0.05)
    assert not is_flat([1.0] * 5 + [0.94] * 5, 0.05)
    assert is_flat([1.0] * 5 + [1.2] * 5, 0.05)


def test_frames_show_the_first_block_on_its_way(job, tmp_path):
    optimise_blocks(job, tmp_path, COMPUTE, logger=None)
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == ["000001.safetensors", "000004.safetensors"]
    tensors, notes = load_tensors(tmp_path / "frames" / names[0])
    assert notes == {"iteration": 1, "classes": [0, 1, 2]}
    assert tensors["images"].shape == (3, 1, 8, 8)


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_block_goes_on_from_its_last_point_to_the_same_bytes(job, tmp_path, at_once):
    job = dataclasses.replace(job, blocks_at_once=at_once)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    optimise_blocks(job, whole, COMPUTE, logger=None)

    def stop(images, *keys):
        if keys[-1] == 5:  # the sixth iteration never happens
            raise KeyboardInterrupt
        return job.view(images, *keys)

    with pytest.raises(BaseException, match=r".*") as caught:
        optimise_blocks(dataclasses.replace(job, view=stop), cut, COMPUTE, logger=None)
    assert caught.type in (KeyboardInterrupt, SystemExit)
    _, notes = load_tensors(cut / ".resume-00000.safetensors")
    assert notes["iteration"] == 3
    optimise_blocks(job, cut, COMPUTE, logger=None)
    for block in job.blocks():
        assert block_file(cut, block).read_bytes() == block_file(whole, block).read_bytes()
    assert not list(cut.glob(".resume*"))


def test_what_is_no_part_of_the_result_is_no_part_of_the_fingerprint(job):
    from teddy.artifacts.fingerprint import fingerprint

    name = fingerprint(job.content("float32"))
    assert name == fingerprint(dataclasses.replace(job, checkpoint_every=9, sheet_every=0).content("float32"))
    for change in ({"lr": 0.2}, {"ipc": 5}, {"seed": 4}, {"weights": Weights(bn=0.1)}, {"teacher_policy": "block"}):
        assert name != fingerprint(dataclasses.replace(job, **change).content("float32"))
    assert name != fingerprint(job.content("bfloat16"))


def test_a_group_that_was_killed_while_its_blocks_were_written_goes_on_to_the_same_bytes(job, tmp_path, monkeypatch):
    from teddy.synthesis import module

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    job = dataclasses.replace(job, blocks_at_once=2)
    optimise_blocks(job, whole, COMPUTE, logger=None)

    def killed(path, *args):
        if path == block_file(cut, job.blocks()[1]):
            raise OSError("the machine went down")
        save_tensors(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_tensors", killed)
        with pytest.raises(OSError, match="went down"):
            optimise_blocks(job, cut, COMPUTE, logger=None)
    assert block_file(cut, job.blocks()[0]).is_file()
    optimise_blocks(job, cut, COMPUTE, logger=None)
    for block in job.blocks():
        assert block_file(cut, block).read_bytes() == block_file(whole, block).read_bytes()
