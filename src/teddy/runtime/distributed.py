"""Several processes for one run: every process runs the whole command and the same stages.

Processes exist from the start of the command, because what one of them decides before the first fit (whether work is found in
the store) must reach the others. On one machine :func:`launch` starts them with torchrun; on several, the user does, with
torchrun or srun. Lightning finds them and starts none itself.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Sequence
from datetime import timedelta

from teddy.artifacts import processes
from teddy.artifacts.processes import barrier, broadcast, is_leader, rank, world_size
from teddy.config.errors import UserError

__all__ = ["barrier", "broadcast", "init", "is_leader", "launch", "rank", "world_size"]

_WAIT = timedelta(days=30)  # for processes that wait while one builds; the collectives of a fit have torch's limit


def launch(devices: int, num_nodes: int, arguments: Sequence[str]) -> None:
    """Replace this process by torchrun with one process per device, unless one is enough or they were started already."""
    if devices * num_nodes == 1 or _started():
        return
    if num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={num_nodes} needs one process per device on every machine; start the command with srun, or as "
            f"`torchrun --nnodes {num_nodes} --nproc-per-node {devices} --rdzv-backend c10d --rdzv-endpoint HOST:PORT "
            "-m teddy …`."
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    torchrun = ["-m", "teddy.runtime.torchrun", "--standalone", "--nproc-per-node", str(devices)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *torchrun, "-m", "teddy", *arguments])


def _started() -> bool:
    # A batch script is a task as well: the only one, unless srun starts more.
    slurm = "SLURM_PROCID" in os.environ and os.environ.get("SLURM_NTASKS", "1") != "1"
    return slurm or any(name in os.environ for name in ("RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"))


def init(accelerator: str, devices: int = 1, num_nodes: int = 1) -> None:
    """Join the run's processes, if they are as many as wanted, into one group, which Lightning then uses; silence all but one."""
    import torch
    from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
    from torch import distributed

    torchrun, wanted = TorchElasticEnvironment.detect(), devices * num_nodes
    if distributed.is_initialized() or (wanted == 1 and not torchrun):
        return
    if not torchrun and not SLURMEnvironment.detect():
        raise UserError(
            f"trainer.devices={devices} needs {wanted} processes and only one was started; start the command with torchrun or "
            "srun, or set trainer.devices=1."
        )
    environment = TorchElasticEnvironment() if torchrun else SLURMEnvironment()
    if environment.world_size() != wanted:
        raise UserError(
            f"{environment.world_size()} processes were started, but trainer.devices={devices} and "
            f"trainer.num_nodes={num_nodes} ask for {wanted}; make the two agree."
        )
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    if accelerator == "cuda":
        torch.cuda.set_device(environment.local_rank() % torch.cuda.device_count())
    # Named, since Lightning asks the group for its backend.
    backend = "nccl" if accelerator == "cuda" else "gloo"
    distributed.init_process_group(backend, rank=environment.global_rank(), world_size=wanted)
    atexit.register(distributed.destroy_process_group)
    processes.waiting = distributed.new_group(backend="gloo", timeout=_WAIT)
    if not is_leader():
        logging.getLogger("teddy").setLevel(logging.ERROR)
