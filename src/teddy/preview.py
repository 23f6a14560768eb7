"""The plan of a run, for ``--plan`` and the first lines of a run: what the stages will find and make, and for how long."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from teddy import factory, metadata
from teddy.artifacts.store import ArtifactStore
from teddy.data.dataset import RealDataset
from teddy.invocation import open_invocation
from teddy.plan import Plan
from teddy.pool.trajectory import train
from teddy.runtime.device import DeviceConfig
from teddy.runtime.forecast import Forecast, Timed
from teddy.runtime.loggers import RunLog

MEASURE = True
"""Whether the first units of each kind of work are timed."""
_TIMES: dict[str, Timed | None] = {}


def preview(plan: Plan) -> Forecast:
    """Print the plan of a run without writing anything; UserError as in the run, for what can be known beforehand."""
    device_config = factory.device_config_of(plan.config)
    store, dataset = factory.store_and_dataset(plan)
    forecast = forecast_of(plan, store, dataset, device_config)
    print(*lines(plan, device_config, forecast), sep="\n", flush=True)
    return forecast


def forecast_of(plan: Plan, store: ArtifactStore, dataset: RealDataset, device_config: DeviceConfig) -> Forecast:
    """What the stages would find and make, as they say in a run on a store that makes nothing."""
    alone = device_config.processes == 1
    with tempfile.TemporaryDirectory(prefix="teddy-") as name:
        folder = Path(name)
        forecast = Forecast(store, folder, MEASURE and alone, _TIMES)
        invocation = open_invocation(plan, folder, forecast, dataset, device_config, RunLog(folder))
        base = invocation.base()
        forecast.sample = ((base.network, base.recipe), base.name), partial(train, base), base.recipe.batch_size
        with forecast.quiet():
            invocation.stages()
    return forecast


def lines(plan: Plan, device_config: DeviceConfig, forecast: Forecast, short: bool = False) -> list[str]:
    """What runs where, then a line for each stage, or for each kind of work in it unless ``short``."""
    title = f"{plan.config.name}: {', '.join(plan.config.stages)} on {metadata.hardware(device_config)}"
    return [title, *forecast.lines(factory.STAGE_OF_KIND, short)]
