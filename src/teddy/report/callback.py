"""The end of a sweep: one table and one report on all its jobs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from teddy.artifacts.processes import is_leader
from teddy.config.errors import UserError


class SweepReport(Callback):
    """Hydra's callback in the process that the user started, whichever launcher ran the jobs."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Show the sweep's table and write its report, from what the jobs have left in their folders."""
        if not is_leader():
            return
        from teddy.report.page import write_report  # imported late, so that every start is quick
        from teddy.report.tables import show

        folder = Path(config.hydra.sweep.dir)
        with contextlib.suppress(UserError):  # no job has come to a result, and each has explained why
            page = write_report(folder)
            show(folder)
            print(f"Sweep:  {page}")
