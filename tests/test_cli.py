"""What a person sees who types something wrong: one sentence, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import teddy.pipeline
from teddy import __version__, cli
from teddy.config.errors import StageFailed, UserError
from teddy.config.paths import config_dir

EXPERIMENTS = sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml"))


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def without_first_line(err: str) -> str:
    """What a command says besides the line with which every run begins, once its configuration is composed."""
    return re.sub(rf"^teddy {re.escape(__version__)}: .*, in .*\n", "", err, flags=re.MULTILINE)


@pytest.fixture
def teddy_command(empty, monkeypatch, capfd):
    """Types arguments after ``teddy`` and returns exit code, standard output and standard error.

    Only a command that passes every check reaches ``started``, which stands in place of the pipeline.
    """
    started: list[str] = []
    monkeypatch.setattr(teddy.pipeline, "run", lambda plan, folder, command, *rest: started.append(command))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    for name in ("TEDDY_TRACEBACK", "TEDDY_ALLOW", cli.COMMAND):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", str(empty))  # nobody's account
    handlers = logging.getLogger().handlers[:]

    def type_arguments(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["teddy", *arguments])
        monkeypatch.setenv(cli.COMMAND, "")
        code = cli.main()
        out, err = capfd.readouterr()
        return code, out, without_first_line(err)

    type_arguments.started = started  # type: ignore[attr-defined]
    yield type_arguments
    logging.getLogger().handlers[:] = handlers  # Hydra configures logging for its jobs


def refusal(teddy_command, empty: Path, *arguments: str) -> str:
    """The sentence with which a command is refused."""
    code, out, err = teddy_command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("teddy: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert teddy_command.started == []
    assert list(empty.iterdir()) == []
    return err.removeprefix("teddy: ")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["synthesis.ipcc=3"], ["'synthesis.ipcc'", "did you mean 'synthesis.ipc'?"]),
        (["+typo=1"], ["'typo'"]),
        (["synthesis.ipc=many"], ["synthesis.ipc must be a whole number, not 'many'"]),
        (["synthesis.ipc="], ["synthesis.ipc must be a whole number"]),
        (["synthesis.ipc=0"], ["synthesis.ipc=0 must be at least 1"]),
        (["labels.top_k=10"], ["labels.top_k=10 must be less than the 10 classes"]),
        (["labels=online", "labels.top_k=2"], ["labels.top_k=2 is for stored labels", "labels=stored"]),
        (["--bogus"], ["--bogus", "--hydra-help"]),
        (["trainer=nope"], ["'trainer/nope'", "choose one of auto, cpu, ddp, deterministic, gpu, multi_node."]),
        (["-m", "seed=range(0,1000000000)"], ["more than 1,000 jobs"]),
        (["--config-dir", "/does/not/exist"], ["/does/not/exist"]),
        (["--config-dir"], ["--config-dir needs a value", "--hydra-help"]),
        (["--experimental-rerun", "x.pickle"], ["would load a pickle"]),
        (["+experiment=quickstar"], ["'experiment/quickstar'", "did you mean 'quickstart'?"]),
        (["-m", "synthesis.ipc=0,1"], ["synthesis.ipc=0 must be at least 1"]),
        (["+sweep=ipc", "synthesis.teachers_per_block=9"], ["synthesis.teachers_per_block=9", "the pool's 5"]),
        (["pool.strategy._target_=os.system"], ["pool.strategy._target_", "'os.system'"]),
        (["pool.strategy._target_=teddy.pool.prior.Nope"], ["teddy.pool.prior.Nope"]),
        (["+pool.strategy.firsst=3"], ["'pool.strategy.firsst'", "PriorPool has first"]),
        (["+dataset.source.firsst=3"], ["teddy.data.sources.embedded.FashionMini", "'firsst'"]),
        (["+methods.teddy.firsst=3"], ["'methods.teddy.firsst'", "Teddy has ipc"]),
        (["method=[teddy,nope]"], ["'method/nope'"]),
        (["method=[]"], ["method=[] leaves nothing to compare"]),
        (["method=teddy,random"], ["'method=[teddy,random]' for a list"]),
        (["baseline=[random]"], ["no key 'baseline'", "--help"]),
        (["model.name=resnt18"], ["'resnt18'", "resnet18"]),
        (["evaluation.students=[convnet3,resnt18]"], ["'resnt18'", "resnet18"]),
        (["-m", "model.name=convnet3,resnt18"], ["'resnt18'", "resnet18"]),
        (["+experiment=imagenet_ipc10_prior"], ["dataset.root is not set"]),
        (["+experiment=imagenet_ipc10_prior", "dataset.root=/no/where"], ["dataset.root=/no/where does not exist"]),
        (["+search=nope"], ["'search/nope'"]),
        (["+search=teddy", "-m", "seed=1,2"], ["leave out -m"]),
        (["+search=teddy", "seed=1,2"], ["seed=1,2 stands for several values"]),
        (
            ["+search=classwise", "method=[teddy,random]"],
            ["search.method=classwise is not among the methods", "method=[classwise,teddy,"],
        ),
        (
            ["+search=teddy", "+search.values={synthesis.lrr:[1,2]}"],
            ["'synthesis.lrr'", "did you mean 'synthesis.lr'?"],
        ),
        (
            ["+search=teddy", "search.values={synthesis.bn_weight:[1,-1]}"],
            ["synthesis.bn_weight=-1.0 must not be negative"],
        ),
        (
            ["+search=teddy", "+search.values={methods.teddy.view.size:[2]}"],
            ["There is no key 'methods.teddy.view.size'"],
        ),
        (["+search=teddy", "+search.shared={evaluation.epoch:3}"], ["'evaluation.epoch'"]),
        (["pool=post", "pool.strategy.step=3"], ["pool.strategy.step=3 must be less than or equal to 0.5"]),
        (["logger=online"], ["logger.wandb.offline=false needs a W&B API key"]),
        (["+trainer.callbacks.own={_target_:os.system}"], ["trainer.callbacks.own._target_", "'os.system'"]),
        (["+logger.own={_target_:subprocess.Popen}"], ["logger.own._target_", "'subprocess.Popen'"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_a_wrong_argument_is_refused_with_one_sentence(teddy_command, empty, arguments, fragments):
    sentence = refusal(teddy_command, empty, *arguments)
    for fragment in fragments:
        assert fragment in sentence


@pytest.mark.parametrize(
    ("file", "text", "argument", "key"),
    [
        ("experiment/mine.yaml", "# @package _global_\nsynthesis: {ipcc: 3}\n", "+experiment=mine", "synthesis.ipcc"),
        ("dataset/mine.yaml", "defaults: [cifar10, _self_]\nholdot: 0.1\n", "dataset=mine", "dataset.holdot"),
        ("labels/mine.yaml", "defaults: [online, _self_]\ntemperatuur: 4\n", "labels=mine", "labels.temperatuur"),
    ],
)
def test_a_typo_in_a_file_is_refused_with_file_and_key(teddy_command, empty, tmp_path, file, text, argument, key):
    path = tmp_path / "private" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for arguments in (
        ["--config-dir", str(tmp_path / "private"), argument],
        [f"hydra.searchpath=[file://{tmp_path / 'private'}]", argument],
    ):
        sentence = refusal(teddy_command, empty, *arguments)
        assert f"'{key}' in {file}" in sentence


def test_the_traceback_is_shown_on_demand(teddy_command, monkeypatch):
    monkeypatch.setenv("TEDDY_TRACEBACK", "1")
    code, _, err = teddy_command("synthesis.ipcc=3")
    assert code == 2
    assert err.startswith("Traceback (most recent call last)")
    assert "ConfigCompositionException" in err
    assert err.splitlines()[-1].startswith("teddy: There is no key 'synthesis.ipcc'")


def test_a_good_command_starts_the_pipeline_for_each_job(teddy_command):
    assert teddy_command("synthesis.ipc=2", "method=[teddy, random]") == (0, "", "")
    assert teddy_command.started == ["python -m teddy synthesis.ipc=2 'method=[teddy, random]'"]
    teddy_command.started.clear()
    code, _, err = teddy_command("+sweep=ipc", "-m", "seed=1,2")
    assert (code, err) == (0, "")
    assert teddy_command.started == ["python -m teddy +sweep=ipc -m seed=1,2"] * 6


@pytest.mark.parametrize("words", [[], ["-m", "seed=1,2"]])
def test_a_folder_that_cannot_be_written_is_named(teddy_command, monkeypatch, words):
    monkeypatch.chdir("/proc")  # where even root may make no folder
    code, out, err = teddy_command(*words)
    assert (code, out) == (2, "")
    assert err.startswith("teddy: the output folder outputs")
    assert "cannot be made (" in err
    assert "set hydra.run.dir=FOLDER (in a sweep, hydra.sweep.dir) to one that can.\n" in err


def test_a_search_runs_its_trials_and_goes_on_without_those_that_fail(teddy_command, monkeypatch):
    splits = []

    def run(plan, *rest):
        splits.append(plan.config.evaluation.split)
        raise StageFailed("it diverged.") if len(splits) == 1 else UserError("it is full.")

    monkeypatch.setattr(teddy.pipeline, "run", run)
    code, out, err = teddy_command("+search=teddy", "search.trials=3")
    assert (code, err) == (1, "teddy: it diverged.\n")
    assert splits == ["heldout"] * 3, "no trial has a result, so nothing is run on the test images"
    assert out.count("failed: it is full.") == 2


def test_a_search_in_a_file_would_not_be_one(teddy_command, empty, tmp_path):
    (tmp_path / "private" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [/search@search: teddy]\n"
    (tmp_path / "private" / "experiment" / "mine.yaml").write_text(text)
    sentence = refusal(teddy_command, empty, f"--config-dir={tmp_path / 'private'}", "+experiment=mine")
    assert "named on the command line, with +search=NAME" in sentence


def test_a_plugin_that_is_not_installed_is_named(empty):
    done = python_m_teddy(empty, "--allow", "no_such_package")
    assert done.returncode == 2
    assert done.stderr.startswith("teddy: the plug-in no_such_package cannot be imported")
    assert list(empty.iterdir()) == []


def test_version(teddy_command):
    assert teddy_command("--version") == (0, f"teddy {__version__}\n", "")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UserError("dataset.root holds\nno image."), 2, "teddy: dataset.root holds no image.\n"),
        (StageFailed("the disk is full."), 1, "teddy: the disk is full.\n"),
        (
            PermissionError(13, "Permission denied", "/x"),
            1,
            "teddy: /x cannot be used (Permission denied); make it accessible or name another.\n",
        ),
        (KeyboardInterrupt(), 130, "teddy: Interrupted; run the same command again to go on.\n"),
        (ZeroDivisionError("oh"), 1, "teddy: ZeroDivisionError: oh (TEDDY_TRACEBACK=1 shows where).\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes_of_a_run_that_ends_badly(teddy_command, empty, monkeypatch, error, code, sentence):
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(teddy.pipeline, "run", fail)
    assert teddy_command() == (code, "", sentence)
    assert list(empty.iterdir()) == [], "the empty output folder is gone"


def python_m_teddy(folder: Path, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The real command in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, *options, "-m", "teddy", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def imported(done: subprocess.CompletedProcess[str]) -> tuple[set[str], str]:
    """The top-level packages that ``-X importtime`` has seen, and the rest of standard error."""
    lines = done.stderr.splitlines()
    times = [line for line in lines if line.startswith("import time:")]
    packages = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in times}
    assert "teddy" in packages
    return packages, "\n".join(line for line in lines if line not in times)


HEAVY = {"torch", "torchvision", "lightning", "wandb", "matplotlib"}


def test_help_names_what_there_is_and_loads_no_torch(empty):
    done = python_m_teddy(empty, "--help", options=("-X", "importtime"))
    packages, err = imported(done)
    assert (done.returncode, err) == (0, "")
    names = set(done.stdout.replace(",", " ").split())
    assert set(EXPERIMENTS) <= names
    assert "pool -> synthesis -> labels -> evaluation -> report" in done.stdout
    assert not packages & HEAVY
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("synthesis.ipcc=3", "teddy: There is no key 'synthesis.ipcc'; did you mean 'synthesis.ipc'?"),
        ("synthesis.ipc=0", "teddy: synthesis.ipc=0 must be at least 1 and at most 10,000,000."),
    ],
)
def test_a_wrong_key_or_value_ends_the_real_command_before_torch_is_loaded(empty, argument, sentence):
    done = python_m_teddy(empty, "+experiment=quickstart", argument, options=("-X", "importtime"))
    packages, err = imported(done)
    assert (done.returncode, done.stdout) == (2, "")
    assert err.startswith(sentence)
    assert "\n" not in err
    assert not packages & HEAVY
    assert list(empty.iterdir()) == []


def test_a_reader_that_has_enough_is_no_error(empty):
    """As ``python -m teddy --cfg job | head -1``."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-m", "teddy", "--cfg", "job"]
    with subprocess.Popen(
        command, cwd=empty, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("line", "among", "never"),
    [
        ("teddy dataset=", {"dataset=cifar10", "dataset=fashion_mini"}, {"dataset=schema", "dataset=_shared"}),
        ("teddy ", {"logger=", "dataset="}, {"hydra", "hydra."}),
        ("teddy +experiment=quick", {"+experiment=quickstart"}, set()),
    ],
)
def test_a_shell_completes_what_is_for_people(teddy_command, monkeypatch, line, among, never):
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    code, out, _ = teddy_command("-sc", "query=bash")
    assert code == 0
    words = set(out.split())
    assert among <= words
    assert not words & never


def test_waiting_threads_sleep_unless_the_user_says_otherwise(teddy_command, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    teddy_command("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    teddy_command("--version")
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
