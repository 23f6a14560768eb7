"""The command: compose, check, run, exit code. 0 done, 1 failed, 2 the input cannot be used, 130 interrupted."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from teddy.config.command import check_command, names_experiment, to_config
from teddy.config.errors import BadInput, StageFailed
from teddy.config.paths import config_dir
from teddy.config.schema import register_schemas

QUICKSTART = "+experiment=quickstart"


def main() -> int:
    """Runs the command line in ``sys.argv`` and returns the exit code."""
    # Hydra then passes every exception on instead of printing it itself and ending with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register_schemas()
    if not names_experiment(sys.argv[1:]):
        sys.argv.append(QUICKSTART)
    try:
        check_command(sys.argv[1:])
        _hydra_main()
    except KeyboardInterrupt:
        return _say("Interrupted; run the same command again to go on.", 130)
    except BadInput as error:
        return _say(str(error), 2, error)
    except Exception as error:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        if isinstance(error, HydraException | OmegaConfBaseException):
            from teddy.config.messages import sentence

            return _say(sentence(error), 2, error)
        if isinstance(error, StageFailed):
            return _say(str(error), 1, error)
        return _say(f"{type(error).__name__}: {error} (TEDDY_TRACEBACK=1 shows where).", 1, error)
    return 0


def _hydra_main() -> None:
    import hydra

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(node: Any) -> None:
        from hydra.core.hydra_config import HydraConfig

        config = to_config(node)
        from teddy.pipeline import run  # imports torch: as late as can be

        run(config, Path(HydraConfig.get().runtime.output_dir), command=["python -m teddy", *sys.argv[1:]])

    job()


def _say(text: str, code: int, error: BaseException | None = None) -> int:
    if error is not None and os.environ.get("TEDDY_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
    print(f"teddy: {' '.join(text.split())}", file=sys.stderr)
    return code
