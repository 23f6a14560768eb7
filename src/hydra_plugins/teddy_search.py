"""Hydra's side of a search: Hydra takes sweepers from the package ``hydra_plugins`` only. :mod:`teddy.search` has the rest."""

# Without annotations from __future__: a dataclass would look them up in a module that Hydra has not yet entered in sys.modules.

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


@dataclass
class SearchSweeperConfig:
    """The node ``hydra.sweeper`` of a search; ``params`` stands there for what reads any sweeper's."""

    _target_: str = "hydra_plugins.teddy_search.SearchSweeper"
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="search", node=SearchSweeperConfig, provider="teddy")


class SearchSweeper(Sweeper):
    """Launches the trials and then the final run, with whichever launcher was chosen."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search for the settings that ``config.search`` describes; ``arguments`` are the overrides as typed."""
        from teddy.config.command import to_config  # late: Hydra imports plug-ins at every start
        from teddy.search import run_search

        assert self.config is not None
        node = copy.deepcopy(self.config)
        with open_dict(node):
            del node["hydra"]
        run_search(to_config(node), arguments, Path(self.config.hydra.sweep.dir), self._launch)

    def _launch(self, jobs: Sequence[Sequence[str]], first: int) -> list[Any]:
        assert self.launcher is not None
        return [done.return_value for done in self.launcher.launch(jobs, initial_job_idx=first)]
