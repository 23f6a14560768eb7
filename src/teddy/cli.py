"""The command: compose, check, run, exit code. 0 done, 1 failed, 2 the input cannot be used, 130 interrupted."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

from teddy import __version__
from teddy.config.build import build
from teddy.config.checks import check_files
from teddy.config.command import check_command, plain_help, read_command, sweep_overrides, to_config
from teddy.config.errors import BadInput, StageFailed
from teddy.config.help import help_text, tidy
from teddy.config.paths import config_dir
from teddy.config.schema import TeddyConfig, register_schemas
from teddy.data.sources.base import Source
from teddy.models.names import check_networks
from teddy.runtime.wandb_mode import choose_mode


def main() -> int:
    """Runs the command line in ``sys.argv`` and returns the exit code."""
    # Hydra then passes every exception on instead of printing it itself and ending with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    if "--version" in sys.argv[1:]:
        print(f"teddy {__version__}")
        return 0
    try:
        args, sys.argv[1:] = read_command(sys.argv[1:])
        folders = plain_help(args)
        if folders is not None:
            print(help_text(folders), end="")
            return 0
        register_schemas()
        typed = ["python -m teddy", *sys.argv[1:]]
        configs = check_command(args)
        _check_objects(configs)
        if configs:
            sys.argv[1:] += sweep_overrides(args)
        if args.help:
            with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
                _hydra_main(typed)
            print(tidy(shown.getvalue()), end="")
            return 0
        _hydra_main(typed)
    except KeyboardInterrupt:
        return _say("Interrupted; run the same command again to go on.", 130)
    except BrokenPipeError:  # the reader, such as `head`, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except BadInput as error:
        return _say(str(error), 2, error)
    except Exception as error:
        from teddy.config.messages import is_about_config, sentence

        if is_about_config(error):
            return _say(sentence(error), 2, error)
        if isinstance(error, StageFailed):
            return _say(str(error), 1, error)
        return _say(f"{type(error).__name__}: {error} (TEDDY_TRACEBACK=1 shows where).", 1, error)
    return 0


def _check_objects(configs: list[TeddyConfig]) -> None:
    """Names of networks and classes, files and folders, W&B's key: before torch is loaded or anything is written."""
    for config in configs:
        check_networks(config.model.name, *config.evaluation.students)
        choose_mode(config.logger.mode)
        check_files(config)
        selections = [baseline.pool for baseline in config.baselines.values() if baseline.pool is not None]
        source: Source = build(config.dataset.source)
        for node in (config.pool.strategy, *(one.strategy for one in selections)):
            build(node)
        source.check()  # last: the keys are known by now


def _hydra_main(typed: list[str]) -> None:
    import hydra

    home, failures = os.getpid(), []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(node: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        config = to_config(node)
        from teddy.pipeline import run  # imports torch: as late as can be

        try:
            hydra_config = HydraConfig.get()
            job_number = f"-{hydra_config.job.num}" if str(hydra_config.mode).endswith("MULTIRUN") else ""
            title = f"{config.name}-s{config.seed}{job_number}"
            run(config, Path(hydra_config.runtime.output_dir), typed, title)
        except (BadInput, StageFailed) as error:
            if os.getpid() != home:  # a launcher's worker: only an exception finds its way back
                raise
            failures.append(error)  # the other jobs of a sweep still get their turn

    job()
    for error in failures[1:]:
        _say(str(error), 1)
    if failures:
        raise failures[0]


def _say(text: str, code: int, error: BaseException | None = None) -> int:
    if error is not None and os.environ.get("TEDDY_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
    print(f"teddy: {' '.join(text.split())}", file=sys.stderr)
    return code
