"""A user's YAML files can choose launchers and log formats; they cannot make Hydra call anything."""

from __future__ import annotations

import pytest

from teddy.config.errors import UserError

GOOD = [
    "hydra: {sweeper: {params: {seed: '0,1'}}}",
    "hydra: {job: {env_set: {OMP_NUM_THREADS: '1'}}}",
    "hydra: {callbacks: {again: {_target_: teddy.report.callback.SweepReport}}}",
    "hydra: {job_logging: {handlers: {console: {class: logging.StreamHandler}}}}",
    "hydra: {job_logging: {handlers: {file: {class: logging.FileHandler, filename: '${hydra.runtime.output_dir}/x.log'}}}}",
    "defaults: [{override /hydra/launcher: joblib}]",
]
BAD = [
    ("hydra: {callbacks: {x: {_target_: os.system, command: 'true'}}}", "_target_ os.system may not be named"),
    (
        "hydra: {callbacks: {x: {_target_: subprocess.Popen, args: 'true'}}}",
        "may not be named",
    ),
    ("hydra: {callbacks: {x: {_target_: logging.os.system, command: 'true'}}}", "cannot be found"),
    ("hydra: {callbacks: {x: {_target_: hydra.utils.call}}}", "is not a class"),
    (
        "hydra: {callbacks: {x: {_target_: teddy.report.callback.SweepReport, y: [{_target_: os.system}]}}}",
        "may not be named",
    ),
    (
        "hydra: {callbacks: {x: {_target_: '${hydra:job.name}'}}, job: {name: os.system}}",
        "cannot be told before the run",
    ),
    ("hydra: {callbacks: {x: '${oc.create:\"{_target_: os.system, command: hi}\"}'}}", "may not be named"),
    ("hydra: {callbacks: '${oc.create:\"{x: {_target_: os.system}}\"}'}", "may not be named"),
    ("hydra: {callbacks: {x: '${hydra:job.env_set}'}}", "cannot be told before the run"),
    ("name: os.system\nhydra: {callbacks: {x: {_target_: '${name}'}}}", "may not be named"),
    ("hydra: {launcher: {_target_: os.system}}", "may not be named"),
    ("hydra: {sweeper: {_target_: os.system}}", "may not be named"),
    ("hydra: {job_logging: {formatters: {simple: {(): os.system}}}}", "names a function to call"),
    (
        "hydra: {job_logging: {handlers: {x: {class: subprocess.Popen, args: 'true'}}}}",
        "may not be named",
    ),
    ("hydra: {hydra_logging: {handlers: {x: {class: os.system}}}}", "may not be named"),
    ("hydra: {job: {env_set: {TEDDY_ALLOW: os}}}", "packages are allowed on the command line only"),
]


def choose(folder, text):
    (folder / "experiment").mkdir()
    (folder / "experiment" / "x.yaml").write_text(f"# @package _global_\n{text}\n")
    return ["--config-dir", str(folder), "+experiment=x"]


@pytest.mark.parametrize("text", GOOD)
def test_what_a_file_may_choose(jobs, tmp_path, text):
    assert len(jobs(*choose(tmp_path, text))) == 1


@pytest.mark.parametrize(("text", "fragment"), BAD, ids=[text[:60] for text, _ in BAD])
def test_what_a_file_may_not_name(jobs, tmp_path, text, fragment):
    with pytest.raises(UserError, match=rf"^hydra\.\S+ .*({fragment})|^hydra\S*(: |=).*({fragment})") as caught:
        jobs(*choose(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [["-m"], ["--cfg", "job"]], ids=str)
def test_nor_when_it_is_swept_or_shown(jobs, tmp_path, words):
    with pytest.raises(UserError, match="may not be named"):
        jobs(*choose(tmp_path, BAD[0][0]), *words)
