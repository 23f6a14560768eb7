"""The end of a sweep: one table and one figure over all its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


class SweepReport(Callback):
    """Hydra calls this in the process that was started by the user, whichever launcher ran the jobs."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Writes the sweep's report from what its jobs have left in their folders."""
        from teddy.report.sweep_page import write_sweep_report

        folder = Path(config.hydra.sweep.dir)
        jobs = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
        finished = [path for path in jobs if (path / "results.jsonl").is_file()]
        if finished:
            page = write_sweep_report(finished, folder, title=f"{config.name}: {len(finished)} of {len(jobs)} jobs")
            print(f"Sweep:  {page}")
