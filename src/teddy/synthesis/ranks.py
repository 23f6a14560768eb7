"""Deals blocks to processes.

Blocks share nothing, so neither do the processes: no DDP, no barrier, and the same images for any number of them (invariant 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger

from teddy.runtime.precision import Compute
from teddy.runtime.progress import ProgressCallback
from teddy.runtime.trainer import make_trainer
from teddy.synthesis.blocks import Block
from teddy.synthesis.job import SynthesisJob
from teddy.synthesis.module import PixelSynthesis, block_file


def optimise_blocks(job: SynthesisJob, folder: Path, compute: Compute, logger: Logger | None) -> None:
    """Optimises every block of the job that ``folder`` does not hold yet, on as many devices as ``compute`` names."""
    ranks = min(compute.devices, len(job.blocks()))
    if ranks == 1:
        _run_rank(0, 1, job, folder, compute, logger)
        return
    # A logger holds open files and sockets, which cannot travel; the losses are in the block files all the same.
    torch.multiprocessing.spawn(_run_rank, args=(ranks, job, folder, compute, None), nprocs=ranks)


def _run_rank(rank: int, ranks: int, job: SynthesisJob, folder: Path, compute: Compute, logger: Logger | None) -> None:
    mine = job.blocks()[rank::ranks]
    pending: Sequence[Block] = [block for block in mine if not block_file(folder, block).is_file()]
    if not pending:
        return
    if ranks > 1 and compute.accelerator == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // ranks))
    callbacks = []
    if rank == 0:
        done = (len(mine) - len(pending)) * job.iterations
        callbacks.append(ProgressCallback("synthesis", total=len(mine) * job.iterations, done=done))
    trainer = make_trainer(
        compute, max_epochs=len(pending), folder=folder, logger=logger, callbacks=callbacks, device_index=rank
    )
    trainer.fit(PixelSynthesis(job, pending, folder))
