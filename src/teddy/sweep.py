"""The end of a sweep: one table and one figure over all its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


class SweepReport(Callback):
    """Hydra calls this in the process that was started by the user, whichever launcher ran the jobs."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Shows the sweep's table and writes its report, from what the jobs have left in their folders."""
        from rich.console import Console

        from teddy.config.errors import BadInput
        from teddy.report.runs import read_runs
        from teddy.report.sweep import collect, rich_table
        from teddy.report.sweep_page import sentences, write

        folder = Path(config.hydra.sweep.dir)
        try:
            sweep = collect(read_runs([folder]))
        except BadInput:  # no job has come to a result, and each has said why
            return
        page = write(sweep, [folder], folder, title=f"{config.name}, {len(sweep.runs)} runs")
        console = Console()
        console.print(rich_table(sweep, title=config.name))
        for line in sentences(sweep):
            console.print(line)
        console.print(f"Sweep:  {page}", soft_wrap=True)
