"""What starts and ends a run: its processes, its folder, its log and its loggers."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from pathlib import Path

from teddy import factory, metadata
from teddy.artifacts.store import atomic_write
from teddy.config.build import factory_of
from teddy.config.command import to_yaml
from teddy.invocation import open_invocation
from teddy.plan import Plan
from teddy.preview import forecast_of, lines
from teddy.report.results_log import Result
from teddy.runtime import distributed
from teddy.runtime.distributed import is_leader
from teddy.runtime.forecast import RunProgress
from teddy.runtime.loggers import log_file, open_loggers, writing
from teddy.runtime.progress import StageProgress

_log = logging.getLogger("teddy")


def run(plan: Plan, folder: Path, command: str, overrides: list[str], title: str, where: str) -> list[Result]:
    """Run one invocation, whose ``command`` was typed, write its records to ``folder`` and return its results.

    Args:
        overrides: of this job, as Hydra composed it.
        title: tells it from other invocations in a dashboard.
        where: the override that names the output folder, so that all processes of a run use the same.

    Raises:
        UserError: something the user gave cannot be used.
        StageFailed: a stage could not be finished.
        Diverged: some units could not, and everything that does not need them is done.
        KeyboardInterrupt: the process was told to stop.
    """
    config = plan.config
    device_config = factory.device_config_of(config)
    devices, nodes = device_config.devices, device_config.num_nodes
    distributed.launch(devices, nodes, [*sys.argv[1:], where])
    distributed.init(device_config.accelerator, devices, nodes)
    folder = distributed.broadcast(folder)  # processes that srun started each name their own
    store, dataset = factory.store_and_dataset(plan)
    with log_file(folder / "teddy.log"):
        with writing(folder):
            if is_leader():
                folder.mkdir(parents=True, exist_ok=True)
                forecast = forecast_of(plan, store, dataset, device_config)
                StageProgress.whole = RunProgress(store, forecast.items)
                for line in lines(plan, device_config, forecast, short=True):
                    _log.info(line)
            log = open_loggers(
                {name: factory_of(f"logger.{name}", node) for name, node in config.logger.items()},
                folder,
                name=title,
                group=config.name,
                job_type="+".join(config.stages),
                tags=[config.dataset.name, f"ipc{config.synthesis.ipc}", plan.strategy.label],
                config={**asdict(config), "dataset_fingerprint": dataset.fingerprint, "command": command},
            )
            if is_leader():
                metadata.say_data(dataset)
                if config.chosen is not None:
                    _log.info("Chosen for them, and changed by typing another value: %s", config.chosen)
                atomic_write(folder / "config.yaml", to_yaml(config))
                store.record = folder / "artifacts.txt"
        code = 1
        try:
            invocation = open_invocation(plan, folder, store, dataset, device_config, log)
            invocation.run(command, overrides)
            code = 0
            return invocation.rows
        except OSError as error:
            if error.filename not in (None, str(store.record)):
                raise
            with writing(folder):  # the store's own errors are no OSError
                raise
        finally:
            StageProgress.whole = None
            log.finish(code)
