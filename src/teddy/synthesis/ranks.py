"""Deals groups of blocks to processes.

Groups share nothing, so neither do the processes: no DDP, no barrier, and the same images for any number of them (invariant 3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

from teddy.config.errors import BadInput, StageFailed
from teddy.runtime.allocator import keep_freed_memory
from teddy.runtime.precision import Compute
from teddy.runtime.progress import ProgressCallback
from teddy.runtime.trainer import make_trainer
from teddy.synthesis.job import SynthesisJob
from teddy.synthesis.module import PixelSynthesis, is_done, iterations_done


def optimise_blocks(job: SynthesisJob, folder: Path, compute: Compute, logger: Logger | None) -> None:
    """Optimises every block of the job that ``folder`` does not hold yet, on as many devices as ``compute`` names.

    Raises:
        StageFailed: a block diverged, or a process was killed.
    """
    ranks = min(compute.devices, len(job.groups()))
    if ranks == 1:
        _run_rank(0, 1, job, folder, compute, logger)
        return
    last_words = torch.multiprocessing.get_context("spawn").SimpleQueue()
    threads = max(1, torch.get_num_threads() // ranks)
    try:
        torch.multiprocessing.spawn(_run_process, args=(last_words, threads, ranks, job, folder, compute), nprocs=ranks)
    except ProcessException as error:
        if not last_words.empty():
            raise last_words.get() from error
        if isinstance(error, ProcessExitedException):
            raise StageFailed(
                f"synthesis: {error}, perhaps for want of memory; run the same command again, finished blocks are kept."
            ) from error
        raise


def _run_process(
    rank: int, last_words: Any, threads: int, ranks: int, job: SynthesisJob, folder: Path, compute: Compute
) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
    try:
        # A logger holds open files and sockets, which cannot travel; the losses are in the block files all the same.
        _run_rank(rank, ranks, job, folder, compute, logger=None)
    except (BadInput, StageFailed) as error:
        last_words.put(error)
        raise


def _run_rank(rank: int, ranks: int, job: SynthesisJob, folder: Path, compute: Compute, logger: Logger | None) -> None:
    mine = job.groups()[rank::ranks]
    pending = [group for group in mine if not is_done(folder, group)]
    if not pending:
        return
    callbacks = []
    if rank == 0:
        done = (len(mine) - len(pending)) * job.iterations + sum(iterations_done(folder, group) for group in pending)
        callbacks.append(ProgressCallback("synthesis", total=len(mine) * job.iterations, done=done))
    trainer = make_trainer(
        compute, max_epochs=len(pending), folder=folder, logger=logger, callbacks=callbacks, device_index=rank
    )
    trainer.fit(PixelSynthesis(job, pending, folder, compute.frozen_weights))
