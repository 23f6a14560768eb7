"""The engine of synthesis: it optimises a method's blocks, group by group, and knows no equation.

Groups share nothing, so each process takes every n-th one, and the images do not depend on the number of processes (invariant 3).
A finished block is a file, and so is the last point of a group that is being optimised: a killed run goes on from there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from teddy.artifacts.store import atomic_write
from teddy.config.errors import Diverged, StageFailed
from teddy.runtime.distributed import gather, is_leader, rank, world_size
from teddy.runtime.progress import StageProgress
from teddy.runtime.resume import load_point, save_point
from teddy.runtime.trainer import make_trainer
from teddy.synthesis.blocks import Block
from teddy.synthesis.init import INIT
from teddy.synthesis.method import Inputs, Run, SyntheticSet
from teddy.synthesis.module import GroupProgress, PixelCheckpoint, PixelSynthesis, Snapshots
from teddy.synthesis.probe import StudentProbe

if TYPE_CHECKING:
    from teddy.synthesis.optimized import OptimizedMethod, State


TERMS = "terms.csv"


def optimise(method: OptimizedMethod, inputs: Inputs, run: Run) -> SyntheticSet:
    """Optimise every block that the run's folder does not hold yet, and put all of them together.

    Raises:
        Diverged: some blocks did; all others are finished.
        StageFailed: a block was removed meanwhile.
    """
    groups = method.groups(inputs.spec)
    own = groups[rank() :: world_size()]
    # Reads every block that an earlier run left, and removes damaged ones.
    pending = [group for group in own if not all(load_point(block_file(run.folder, block)) for block in group)]
    diverged: list[str] = []
    # All processes prepare if one has to: what they need from the store they wait for together.
    if any(gather(bool(pending))):
        done = (len(own) - len(pending)) * method.iterations
        points = [load_point(_resume_file(run.folder, group)) for group in pending]
        done += sum(point[1]["iteration"] for point in points if point)
        shared = method.prepare(inputs, run.device_config)
        with StageProgress("synthesis", total=len(own) * method.iterations, unit="steps", done=done) as progress:
            for group in pending:
                try:
                    _optimise_group(method, inputs, run, group, shared, progress)
                except Diverged as error:  # its text alone: the error itself holds all tensors
                    diverged.append(str(error))
    if diverged := [one for part in gather(diverged) for one in part]:
        name = method.title or type(method).__name__
        raise Diverged(f"synthesis by {name} diverged in {', and in '.join(diverged)}; lower its learning rate (lr).")
    if not is_leader():
        return SyntheticSet(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    return _collect(method, inputs, run, [block for group in groups for block in group])


def block_file(folder: Path, block: Block) -> Path:
    """The file of a finished block, which the store removes once the set is finished."""
    return folder / ".blocks" / f"{block.index:05d}.safetensors"


def start_state(
    method: OptimizedMethod, inputs: Inputs, seed: int, group: Sequence[Block], shared: Any, device: torch.device
) -> State:
    """A group of blocks before its first iteration."""
    from teddy.synthesis.optimized import State

    start = torch.cat([INIT[method.initial](block, inputs, method.ipc, seed, method.tiles) for block in group])
    pixels = nn.Parameter(start.to(device, torch.float32).contiguous(memory_format=torch.channels_last))
    labels = torch.tensor([label for block in group for label in block.classes], device=device)
    labels = labels.repeat_interleave(method.tiles**2)
    return method.setup(State(group, pixels, labels, seed, shared, method.tiles))


def _optimise_group(
    method: OptimizedMethod, inputs: Inputs, run: Run, group: Sequence[Block], shared: Any, progress: StageProgress
) -> None:
    spec, resume = inputs.spec, _resume_file(run.folder, group)
    state = start_state(method, inputs, run.seed, group, shared, run.device_config.device)
    module = PixelSynthesis(method, state, spec, load_point(resume))
    trainer = make_trainer(
        run.device_config,
        max_epochs=1,
        folder=run.folder,
        logger=run.log.stage(run.name, first_step=group[0].index * method.iterations + module.first),
        callbacks=[
            GroupProgress(progress),
            # Before the point to resume from: a run that goes on from there does not come back here.
            Snapshots(run.folder, run.snapshot_every),
            *([StudentProbe(run.probe_every, inputs.held, run.name.rpartition("/")[2])] if run.probe_every else []),
            PixelCheckpoint(resume, run.checkpoint_every),
        ],
        log_every=1,
        single=True,
    )
    trainer.fit(module)
    module.to(run.device_config.device)  # from the CPU, where a Trainer leaves parameters
    # What everything after this stage sees is 8-bit images (invariant 5).
    images = spec.denormalise(method.result(state)).cpu()
    for block, part, history in zip(group, images.chunk(len(group)), module.history, strict=True):
        target = block_file(run.folder, block)
        target.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"images": part, "labels": torch.tensor(block.classes), "slots": torch.tensor(block.slots)}
        notes = {"names": list(module.terms), "history": history, "facts": method.facts(state)}
        save_point(target, tensors, notes)
    resume.unlink(missing_ok=True)


def _resume_file(folder: Path, group: Sequence[Block]) -> Path:
    return folder / f".resume-{group[0].index:05d}.safetensors"


def _collect(method: OptimizedMethod, inputs: Inputs, run: Run, blocks: Sequence[Block]) -> SyntheticSet:
    """All images by class and slot, and the recorded terms as a file.

    One block after the other goes to its place: ImageNet at IPC 100 is 15 GB, which must not lie in memory twice.
    """
    spec = inputs.spec
    images = torch.empty((spec.num_classes * method.ipc, spec.channels, spec.size, spec.size), dtype=torch.uint8)
    terms = io.StringIO()  # a row for each recorded iteration of a block
    writer, facts = csv.writer(terms, lineterminator="\n"), dict[str, Any]()
    for block in blocks:
        point = load_point(block_file(run.folder, block))
        if point is None:
            raise StageFailed(
                f"a finished block in {run.folder} is gone; run the command again, which goes on from the rest."
            )
        tensors, notes = point
        images[tensors["labels"] * method.ipc + tensors["slots"]] = tensors["images"]
        if block is blocks[0]:
            writer.writerow(("block", "iteration", *notes["names"]))
        writer.writerows([block.index, *row] for row in notes["history"])
        facts |= notes["facts"]
    atomic_write(run.folder / TERMS, terms.getvalue())
    return SyntheticSet(images, torch.arange(spec.num_classes).repeat_interleave(method.ipc), facts, method.tiles)
