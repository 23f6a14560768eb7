"""The engine with a method made for these tests: every pixel is pulled to a target that moves with an inner state."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from teddy.config.errors import Diverged, UserError
from teddy.data.distilled import load_distilled
from teddy.data.tiles import enlarge_tiles
from teddy.runtime.device import DeviceConfig
from teddy.runtime.distributed import barrier
from teddy.runtime.loggers import RunLog
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import load_point, load_tensors
from teddy.synthesis import engine
from teddy.synthesis.engine import block_file, optimise
from teddy.synthesis.init import real
from teddy.synthesis.method import Inputs, Run
from teddy.synthesis.optimized import OptimizedMethod, State
from teddy.synthesis.stage import synthesize

DEVICE = DeviceConfig("cpu", "32-true")


@dataclass
class PullState(State):
    """The target of each block, which drifts."""

    target: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Pull(OptimizedMethod):
    """Half the squared distance to a target per block, which grows by a tenth in each iteration."""

    lr: float = 0.2
    stop: int | None = None

    def setup(self, state):
        first = torch.tensor([float(block.index) for block in state.blocks])
        return PullState(**vars(state), target=first)

    def optimizer(self, state):
        return torch.optim.SGD([state.pixels], lr=self.lr, momentum=0.5)

    def lr_factor(self, iteration):
        return 1 / (1 + iteration)

    def step(self, state, iteration):
        if iteration == self.stop:
            raise KeyboardInterrupt
        distance = state.pixels.unflatten(0, (len(state.blocks), -1)) - state.target.view(-1, 1, 1, 1, 1)
        loss = 0.5 * distance.square().sum((1, 2, 3, 4))
        loss.sum().backward()
        state.target += 0.1
        return {"pull": loss.detach(), "iteration_squared": torch.tensor(float(iteration**2))}

    def tensors(self, state):
        return {"target": state.target}


@pytest.fixture
def method() -> Pull:
    return Pull(ipc=4, iterations=7, batch_size=6)


def run_in(folder: Path, **options) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(folder, DEVICE, seed=3, log=RunLog(folder), **{"checkpoint_every": 3, "snapshot_every": 4, **options})


def held(folder: Path, block) -> tuple[dict[str, bytes], dict]:
    """The content of a block's file, whose checksum depends on its folder."""
    tensors, notes = load_point(block_file(folder, block))
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, notes


def plain_loop(method: Pull, inputs: Inputs) -> torch.Tensor:
    """All images by class and slot, by the update of SGD with momentum written out."""
    low, high = inputs.spec.pixel_bounds()
    images = torch.empty(12, 1, 8, 8, dtype=torch.uint8)
    for group in method.groups(inputs.spec):
        for block in group:
            pixels, velocity, target = real(block, inputs, 4, 3), 0.0, float(block.index)
            for iteration in range(method.iterations):
                velocity = 0.5 * velocity + (pixels - target)
                pixels = torch.minimum(torch.maximum(pixels - method.lr / (1 + iteration) * velocity, low), high)
                target += 0.1
            for label, slot, image in zip(block.classes, block.slots, inputs.spec.denormalise(pixels), strict=True):
                images[4 * label + slot] = image
    return images


@pytest.mark.parametrize("at_once", [1, 2])
def test_images_are_those_of_a_plain_loop(method, inputs, tmp_path, at_once):
    made = optimise(dataclasses.replace(method, blocks_at_once=at_once), inputs, run_in(tmp_path / "run"))
    assert (made.images.int() - plain_loop(method, inputs).int()).abs().max() <= 1  # a value on the edge of two levels
    assert made.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_named_terms_are_a_row_for_each_block_and_recorded_iteration(method, inputs, tmp_path):
    optimise(method, inputs, run_in(tmp_path / "run"))
    with (tmp_path / "run" / "terms.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["block"], row["iteration"]) for row in rows] == [("0", "0"), ("0", "6"), ("1", "0"), ("1", "6")]
    assert [float(row["iteration_squared"]) for row in rows] == [0, 36, 0, 36], "a scalar holds for every block"
    start = real(method.groups(inputs.spec)[0][0], inputs, 4, 3)
    assert float(rows[0]["pull"]) == pytest.approx(0.5 * start.square().sum().item(), rel=1e-5)


def test_snapshots_show_one_image_of_each_class_of_the_first_block(method, inputs, tmp_path):
    made = optimise(method, inputs, run_in(tmp_path / "run"))
    names = sorted(path.name for path in (tmp_path / "run" / "snapshots").iterdir())
    assert names == ["000001.safetensors", "000004.safetensors", "000007.safetensors"]
    tensors, notes = load_tensors(tmp_path / "run" / "snapshots" / names[0])
    assert notes == {"iteration": 1, "classes": [0, 1, 2]}
    assert tensors["images"].shape == (3, 1, 8, 8)
    last, notes = load_tensors(tmp_path / "run" / "snapshots" / names[-1])
    assert notes["iteration"] == method.iterations
    assert torch.equal(last["images"], made.images[:: method.ipc]), "the images as they are in the end"


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_block_goes_on_from_its_last_point_with_its_inner_state_to_the_same_bytes(method, inputs, tmp_path, at_once):
    method = dataclasses.replace(method, blocks_at_once=at_once)
    optimise(method, inputs, run_in(tmp_path / "whole"))
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - Lightning ends an interrupted fit by SystemExit
        optimise(dataclasses.replace(method, stop=5), inputs, run_in(tmp_path / "cut"))
    assert caught.type in (KeyboardInterrupt, SystemExit)
    tensors, notes = load_point(tmp_path / "cut" / ".resume-00000.safetensors")
    assert notes["iteration"] == 3
    assert tensors["method.target"][0].item() == pytest.approx(0.3)
    optimise(method, inputs, run_in(tmp_path / "cut"))
    for block in (block for group in method.groups(inputs.spec) for block in group):
        assert held(tmp_path / "cut", block) == held(tmp_path / "whole", block)
    assert not list((tmp_path / "cut").glob(".resume*"))


def test_a_group_that_was_killed_while_its_blocks_were_written_goes_on_to_the_same_bytes(
    method, inputs, tmp_path, monkeypatch
):
    method = dataclasses.replace(method, blocks_at_once=2)
    blocks = [block for group in method.groups(inputs.spec) for block in group]
    optimise(method, inputs, run_in(tmp_path / "whole"))
    save = engine.save_point

    def killed(path, *args):
        if path == block_file(tmp_path / "cut", blocks[1]):
            raise OSError("the machine went down")
        save(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "save_point", killed)
        with pytest.raises(OSError, match="went down"):
            optimise(method, inputs, run_in(tmp_path / "cut"))
    assert block_file(tmp_path / "cut", blocks[0]).is_file()
    optimise(method, inputs, run_in(tmp_path / "cut"))
    for block in blocks:
        assert held(tmp_path / "cut", block) == held(tmp_path / "whole", block)


@pytest.mark.parametrize("pattern", [".resume-00001.safetensors", ".blocks/00000.safetensors"])
@pytest.mark.parametrize("harm", ["flipped", "cut", "of another block"])
def test_a_damaged_block_or_point_is_made_again(method, inputs, tmp_path, caplog, pattern, harm):
    """A run that was killed in its second block."""
    whole = optimise(method, inputs, run_in(tmp_path / "whole"))
    run, (first, second) = run_in(tmp_path / "cut"), method.groups(inputs.spec)
    with StageProgress("synthesis", 14, "steps") as progress:
        engine._optimise_group(method, inputs, run, first, None, progress)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning ends an interrupted fit by SystemExit
            engine._optimise_group(dataclasses.replace(method, stop=5), inputs, run, second, None, progress)
    victim = tmp_path / "cut" / pattern
    content = victim.read_bytes()
    victim.write_bytes(
        {
            "flipped": content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
            "cut": content[:-1],
            "of another block": block_file(tmp_path / "whole", second[0]).read_bytes(),
        }[harm]
    )
    made = optimise(method, inputs, run)
    assert torch.equal(made.images, whole.images)
    assert len(caplog.messages) == 1
    assert str(victim) in caplog.messages[0]
    assert "computed again" in caplog.messages[0]


def test_two_processes_make_every_block_once(method, inputs, tmp_path, monkeypatch):
    """Each process in turn, as it would see its own rank; real processes are in tests/pipeline/test_devices.py."""
    whole = optimise(method, inputs, run_in(tmp_path / "whole"))
    assert barrier() is None
    for rank in (1, 0):
        monkeypatch.setattr(engine, "world_size", lambda: 2)
        monkeypatch.setattr(engine, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(engine, "is_leader", lambda rank=rank: rank == 0)
        made = optimise(method, inputs, run_in(tmp_path / "dealt"))
        assert len(list((tmp_path / "dealt" / ".blocks").iterdir())) == 2 - rank
    assert torch.equal(made.images, whole.images)


def test_a_block_that_diverges_is_named_and_the_others_are_finished(method, inputs, tmp_path, monkeypatch):
    sound = Pull.step

    def step(self, state, iteration):
        terms = sound(self, state, iteration)
        if state.blocks[0].index == 1 and iteration >= 7:
            state.pixels.grad.fill_(float("nan"))
            terms["pull"] = torch.tensor([float("nan" if iteration > 7 else "inf")])
        return terms

    monkeypatch.setattr(Pull, "step", step)
    wild = dataclasses.replace(method, title="Pull", iterations=30)
    point = tmp_path / "run" / ".resume-00001.safetensors"
    with pytest.raises(
        Diverged, match=r"synthesis by Pull diverged in block 1, iteration 7 \(pull is inf\); lower its"
    ):
        optimise(wild, inputs, run_in(tmp_path / "run", checkpoint_every=5))
    assert len(list((tmp_path / "run" / ".blocks").iterdir())) == len(method.groups(inputs.spec)) - 1
    assert load_point(point)[1]["iteration"] == 5, "the last sound one"
    monkeypatch.undo()
    mended = optimise(wild, inputs, run_in(tmp_path / "run"))
    assert torch.equal(mended.images, optimise(wild, inputs, run_in(tmp_path / "whole")).images)


def test_pixels_of_the_last_step_are_looked_at(method, inputs, tmp_path):
    wild = dataclasses.replace(method, lr=float("nan"), iterations=1)
    with pytest.raises(Diverged, match=r"in block 0 \(pixels\), and in block 1 \(pixels\)"):
        optimise(wild, inputs, run_in(tmp_path / "run"))


def test_the_fingerprint_covers_fields_inputs_and_seed_and_nothing_else(method, inputs, tmp_path):
    store = inputs._store

    def name(method=method, seed=0, **options):
        made = synthesize(store, method, inputs, DEVICE, seed=seed, log=RunLog(tmp_path), name="synthesis/x", **options)
        return made.fingerprint

    short = dataclasses.replace(method, iterations=1)
    same = name(short)
    assert same == name(dataclasses.replace(short, title="another title"), checkpoint_every=1, snapshot_every=1)
    changes = [{"lr": 0.1}, {"ipc": 5}, {"initial": "noise"}, {"batch_size": None}, {"tiles": 2}]
    others = [name(dataclasses.replace(short, **change)) for change in changes] + [name(short, seed=1)]
    assert len({same, *others}) == len(changes) + 2


def test_the_exported_images_are_all_that_is_left(method, inputs, tmp_path):
    made = synthesize(
        inputs._store, method, inputs, DEVICE, seed=3, log=RunLog(tmp_path), name="synthesis/x", snapshot_every=4
    )
    assert (made.images.images.int() - plain_loop(method, inputs).int()).abs().max() <= 1
    assert [snapshot.iteration for snapshot in made.snapshots()] == [1, 4, 7]
    assert made.terms is not None
    names = {path.relative_to(made.artifact.folder).parts[0] for path in made.artifact.folder.rglob("*")}
    assert names == {"images", "snapshots", "terms.csv", "manifest.json", ".lock"}


@dataclass(frozen=True, kw_only=True)
class Blacken(OptimizedMethod):
    """The mean of what networks see of class 1, which is to become black; it learns a rate besides."""

    def optimizer(self, state):
        return torch.optim.SGD([state.pixels], lr=1e4)

    def step(self, state, iteration):
        loss = state.images[state.labels == 1].mean()
        loss.backward()
        return {"mean": loss.detach()}

    def facts(self, state):
        return {"learned_lr": 0.5 * len(state.images)}


def test_methods_see_the_tiles_of_their_images_and_so_do_readers_of_the_set(inputs, tmp_path):
    method = Blacken(ipc=2, iterations=3, tiles=2)
    made = synthesize(inputs._store, method, inputs, DEVICE, seed=3, log=RunLog(tmp_path), name="synthesis/x")
    seen = made.images
    assert seen.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert seen.images[8:16].max() == 0
    start = enlarge_tiles(real(method.groups(inputs.spec)[0][0], inputs, 2, 3, tiles=2), 2)
    assert (seen.images[:8].int() - inputs.spec.denormalise(start[:8]).int()).abs().max() <= 1
    decoded = load_distilled(made.artifact.folder / "decoded_images", inputs.spec)
    assert torch.equal(decoded.images, seen.images)
    assert made.learned_lr == 12.0


def test_tiles_that_do_not_divide_the_image_are_refused_before_anything_is_made(inputs):
    with pytest.raises(UserError, match="images of 8 x 8 pixels cannot hold 3 x 3 tiles"):
        Blacken(ipc=2, iterations=3, tiles=3).check_data(inputs.spec)
