"""The command: compose, check, run, exit code. 0 done, 1 failed, 2 the input cannot be used, 130 or 143 interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teddy import __version__
from teddy.artifacts.processes import is_leader, world_size
from teddy.config.command import SEARCH_WORDS, Command, check_jobs, check_search, is_public, read_command, to_config
from teddy.config.errors import StageFailed, UserError
from teddy.config.messages import is_about_config, sentence
from teddy.config.paths import config_dir
from teddy.config.schema import register_schemas

if TYPE_CHECKING:
    from teddy.plan import Plan

COMMAND = "TEDDY_COMMAND"
"""Environment variable with the command as it was typed, for the processes that a run starts."""
_terminated: list[int] = []
"""Whether SIGTERM has come, as a scheduler sends it. What fails after that, such as loader processes, is no error."""


def main(words: Callable[[], list[str]] = lambda: sys.argv[1:], program: str = "python -m teddy") -> int:
    """Run a command line and return the exit code.

    Args:
        words: returns its words, by default what was typed; an error that it raises is reported like any other.
        program: what is typed before the words.
    """
    # Hydra then passes every exception on instead of printing it itself and ending with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Threads that wait must sleep: where others use the cores too, those that spin are twenty times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "--version" in sys.argv[1:]:
        print(f"teddy {__version__}")
        return 0
    _terminated.clear()
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        # Processes that a run started are told what was typed; their own command line has more.
        typed = os.environ.get(COMMAND) or shlex.join([*program.split(), *sys.argv[1:]])
        command = read_command(words())
        register_schemas()
        check_search(command)
        if command.plans:
            plans = _plans(command)
            _preview([*plans[::2], plans[1]] if command.searches else plans)  # each trial, and one final run
            return 0
        if command.searches or command.foreign or (command.multirun and not command.asks):
            _plans(command)
        if command.searches:
            command = dataclasses.replace(command, overrides=(*command.overrides, *SEARCH_WORDS))
        sys.argv[1:] = [*command.overrides, *command.options]
        if "--shell-completion" in command.named and any(word.startswith("query=") for word in command.overrides):
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                _hydra_main(typed)
            print(" ".join(filter(is_public, shown.getvalue().split())))
        else:
            _hydra_main(typed)
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # the reader, such as `head`, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return _interrupted() if _terminated else report(error)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _terminate(number: int, frame: object) -> None:
    _terminated.append(number)
    raise KeyboardInterrupt


def _interrupted() -> int:
    return _say("Interrupted; run the same command again to go on.", 143 if _terminated else 130)


def _plans(command: Command) -> list[Plan]:
    """Every job of a command, composed and checked; of a search, each trial and the final run with its settings."""
    configs = check_jobs(command)
    if command.searches:
        from teddy.search import jobs_of_search

        words = jobs_of_search(configs[0], command.overrides)
        jobs = [dataclasses.replace(command, overrides=tuple(one)) for one in words]
        configs = [config for job in jobs for config in check_jobs(job)]
    if not configs:
        return []
    from teddy.plan import make_plan

    return [make_plan(config) for config in configs]


def _preview(plans: Sequence[Plan]) -> None:
    """Print the plan of each run, and the sum of several."""
    from teddy.preview import preview
    from teddy.runtime.forecast import total

    items = [item for plan in plans for item in preview(plan).items]
    if len(plans) > 1:
        print(f"all {len(plans)} runs: {total(items)}")


def _hydra_main(typed: str) -> None:
    import hydra

    home, failures = os.getpid(), []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(node: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig

        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        multirun = str(hydra_config.mode).endswith("MULTIRUN")
        searching = hydra_config.runtime.choices["hydra/sweeper"] == "search"
        try:
            config = to_config(node)
            if config.search is not None and not searching:
                raise UserError("A search is named on the command line, with +search=NAME, and in no file.")
            if "RANK" not in os.environ and os.environ.get("SLURM_PROCID", "0") == "0":
                title = f"{config.name}, seed {config.seed}, in {folder}"
                print(f"teddy {__version__}: {title}", file=sys.stderr, flush=True)
            from teddy.plan import make_plan  # imports torch: when keys and values are known to be right

            plan = make_plan(config)
            if os.getpid() != home and config.trainer.devices > 1 and "SLURM_PROCID" not in os.environ:
                raise UserError(
                    f"trainer.devices={config.trainer.devices} cannot be used by jobs that run side by side; "
                    "set trainer.devices=1."
                )
            from teddy.pipeline import run  # imports Lightning: when nothing is wrong with what was typed

            number = f"-{hydra_config.job.num}" if multirun else ""
            where = f"hydra.sweep.dir={hydra_config.sweep.dir}" if multirun else f"hydra.run.dir={folder}"
            title = f"{config.name}-s{config.seed}{number}"
            os.environ[COMMAND] = typed
            return run(plan, folder, typed, list(hydra_config.overrides.task), title, where)
        except BaseException as error:
            _remove_if_empty(folder)
            if not isinstance(error, Exception):
                raise
            if _terminated:
                raise KeyboardInterrupt from error
            # Processes that share a sweep would lose each other. A search takes the error as a result and goes on without the
            # trial. To other sweeps, only an exception finds its way back from a launcher's worker.
            if multirun and world_size() > 1:
                raise
            if searching:
                return error
            if os.getpid() != home:
                raise
            failures.append(error)  # the other jobs of a sweep still get their turn

    try:
        job()
    except OSError as error:  # Hydra's own: what a job raises is among the failures
        if error.filename is None:
            raise
        raise UserError(
            f"the output folder {error.filename} cannot be made ({error.strerror}); shorten name, or set hydra.run.dir=FOLDER "
            "(in a sweep, hydra.sweep.dir) to one that can."
        ) from error
    for failure in failures[1:]:
        report(failure)
    if failures:
        raise failures[0]


def _remove_if_empty(folder: Path) -> None:
    """Remove the output folder of a run that wrote nothing, and the empty folders above it in the working directory."""
    here = Path.cwd()
    with contextlib.suppress(OSError):
        for one in (folder, *folder.parents):
            if here not in one.parents:
                return
            one.rmdir()


def report(error: Exception) -> int:
    """Print one sentence on an error, after its traceback if that is asked for; return the exit code."""
    if os.environ.get("TEDDY_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, UserError | StageFailed):
        return _say(str(error), 2 if isinstance(error, UserError) else 1)
    if is_about_config(error):
        return _say(sentence(error), 2)
    if isinstance(error, OSError) and error.filename is not None:
        return _say(f"{error.filename} cannot be used ({error.strerror}); make it accessible or name another.", 1)
    return _say(f"{type(error).__name__}: {error} (TEDDY_TRACEBACK=1 shows where).", 1)


def _say(text: str, code: int) -> int:
    if is_leader():
        print(f"teddy: {' '.join(text.split())}", file=sys.stderr)
    return code
