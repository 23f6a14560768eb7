"""What a person sees who types something wrong: one sentence, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from teddy import __version__, cli
from teddy.config.errors import BadInput, StageFailed
from teddy.config.paths import config_dir

EXPERIMENTS = sorted(path.stem for path in (config_dir() / "experiment").glob("[!_]*.yaml"))


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def teddy(empty, monkeypatch, capsys):
    """Types words after ``teddy`` and returns exit code, standard output and standard error.

    Only a command that passes every check reaches ``started``, which stands where Hydra would begin the run.
    """
    started: list[list[str]] = []
    monkeypatch.setattr(cli, "_hydra_main", lambda typed: started.append(sys.argv[1:]))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.delenv("TEDDY_TRACEBACK", raising=False)
    monkeypatch.setenv("HOME", str(empty))  # nobody's account

    def type_words(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["teddy", *words])
        code = cli.main()
        return code, *capsys.readouterr()

    type_words.started = started  # type: ignore[attr-defined]
    return type_words


def refusal(teddy, empty: Path, *words: str) -> str:
    """The sentence with which a command is refused."""
    code, out, err = teddy(*words)
    assert (code, out) == (2, "")
    assert err.startswith("teddy: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert teddy.started == []
    assert list(empty.iterdir()) == []
    return err.removeprefix("teddy: ")


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["synthesis.ipcc=3"], ["'synthesis.ipcc'", "did you mean 'synthesis.ipc'?"]),
        (["+typo=1"], ["'typo'"]),
        (["synthesis.ipc=many"], ["synthesis.ipc must be a whole number, not 'many'"]),
        (["synthesis.ipc="], ["synthesis.ipc must be a whole number"]),
        (["synthesis.ipc=0"], ["synthesis.ipc=0 must be at least 1"]),
        (["labels=stored", "labels.top_k=10"], ["labels.top_k=10 must be less than the 10 classes"]),
        (["labels=online", "labels.top_k=2"], ["labels.top_k=2 is for stored labels", "labels=stored"]),
        (["--bogus"], ["--bogus", "--hydra-help"]),
        (["--config-dir", "/does/not/exist"], ["/does/not/exist"]),
        (["+experiment=quickstar"], ["'experiment/quickstar'", "did you mean 'quickstart'?"]),
        (["-m", "synthesis.ipc=0,1"], ["synthesis.ipc=0 must be at least 1"]),
        (["+sweep=ipc", "synthesis.teachers_per_block=9"], ["synthesis.teachers_per_block=9", "the pool's 5"]),
        (["pool.strategy._target_=os.system"], ["pool.strategy._target_", "'os.system'"]),
        (["pool.strategy._target_=teddy.pool.prior.Nope"], ["teddy.pool.prior.Nope"]),
        (["+pool.strategy.firsst=3"], ["teddy.pool.prior.PriorPool", "'firsst'"]),
        (["+dataset.source.firsst=3"], ["teddy.data.sources.embedded.FashionMini", "'firsst'"]),
        (["model.name=resnt18"], ["'resnt18'", "resnet18"]),
        (["evaluation.students=[convnet3,resnt18]"], ["'resnt18'", "resnet18"]),
        (["+experiment=imagenet_ipc10_prior"], ["dataset.root is not set"]),
        (["+experiment=imagenet_ipc10_prior", "dataset.root=/no/where"], ["dataset.root=/no/where does not exist"]),
        (["pool=post", "pool.strategy.step=3"], ["pool.strategy.step=3 must be a number above 0 and at most 0.5"]),
        (["logger.mode=online"], ["logger.mode=online needs a W&B API key"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_a_wrong_word_is_refused_with_one_sentence(teddy, empty, words, fragments):
    sentence = refusal(teddy, empty, *words)
    for fragment in fragments:
        assert fragment in sentence


@pytest.mark.parametrize(
    ("file", "text", "word", "key"),
    [
        ("experiment/mine.yaml", "# @package _global_\nsynthesis: {ipcc: 3}\n", "+experiment=mine", "synthesis.ipcc"),
        ("dataset/mine.yaml", "defaults: [cifar10, _self_]\nholdot: 0.1\n", "dataset=mine", "dataset.holdot"),
        ("labels/mine.yaml", "defaults: [online, _self_]\ntemperatuur: 4\n", "labels=mine", "labels.temperatuur"),
    ],
)
def test_a_typo_in_a_file_is_refused_with_file_and_key(teddy, empty, tmp_path, file, text, word, key):
    path = tmp_path / "private" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for words in (
        ["--config-dir", str(tmp_path / "private"), word],
        [f"hydra.searchpath=[file://{tmp_path / 'private'}]", word],
    ):
        sentence = refusal(teddy, empty, *words)
        assert f"'{key}' in {file}" in sentence


def test_the_traceback_is_shown_on_demand(teddy, monkeypatch):
    monkeypatch.setenv("TEDDY_TRACEBACK", "1")
    code, _, err = teddy("synthesis.ipcc=3")
    assert code == 2
    assert err.startswith("Traceback (most recent call last)")
    assert "ConfigCompositionException" in err
    assert err.splitlines()[-1].startswith("teddy: There is no key 'synthesis.ipcc'")


def test_a_good_command_goes_on_to_hydra_with_words_it_can_read(teddy):
    assert teddy("synthesis.ipc=2") == (0, "", "")
    assert teddy("+sweep=ipc", "-m", "seed=1,2") == (0, "", "")
    assert teddy.started == [
        ["synthesis.ipc=2", "+experiment=quickstart"],
        ["+sweep=ipc", "seed=1,2", "+experiment=quickstart", "-m"],
    ]


def test_version(teddy):
    assert teddy("--version") == (0, f"teddy {__version__}\n", "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BadInput("dataset.root holds\nno image."), 2, "teddy: dataset.root holds no image.\n"),
        (StageFailed("the disk is full."), 1, "teddy: the disk is full.\n"),
        (KeyboardInterrupt(), 130, "teddy: Interrupted; run the same command again to go on.\n"),
        (ZeroDivisionError("oh"), 1, "teddy: ZeroDivisionError: oh (TEDDY_TRACEBACK=1 shows where).\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_codes_of_a_run_that_ends_badly(teddy, monkeypatch, error, code, said):
    def fail(typed: list[str]) -> None:
        raise error

    monkeypatch.setattr(cli, "_hydra_main", fail)
    assert teddy() == (code, "", said)


def python_m_teddy(folder: Path, *words: str) -> tuple[int, str, str, set[str]]:
    """The real command in ``folder``: exit code, output, errors, and the top-level packages that it imported."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "teddy", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    times = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    packages = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in times}
    assert "teddy" in packages
    return run.returncode, run.stdout, "\n".join(set(run.stderr.splitlines()) - set(times)), packages


HEAVY = {"torch", "torchvision", "lightning", "wandb", "matplotlib", "numpy"}


def test_help_names_what_there_is_and_loads_no_torch(empty):
    code, out, err, packages = python_m_teddy(empty, "--help")
    assert (code, err) == (0, "")
    words = set(out.replace(",", " ").split())
    assert set(EXPERIMENTS) <= words
    assert not {word for word in words if word[0] == "_"} | words & {"schema"}, "what only other files use is no choice"
    assert max(map(len, out.splitlines())) <= 130
    assert "pool -> synthesis -> labels -> evaluation -> report" in out
    assert not packages & HEAVY
    assert list(empty.iterdir()) == []


ONE_OF_EACH = [
    ["model.name=convnt3"],
    ["evaluation.students=[convnet3,resnt18]"],
    ["pool.strategy._target_=teddy.pool.prior.Nope"],
    ["pool=post", "pool.strategy.step=3"],
    ["+dataset.source.firsst=3"],
    ["+pool.strategy.firsst=3"],
    ["baseline=[converged]", "+baselines.converged.pool.strategy.firsst=3"],
    ["+experiment=imagenet_ipc10_prior", "dataset.root=/no/where"],
    ["logger.mode=online"],
    ["synthesis.ipc=0"],
]


def test_no_wrong_word_waits_for_torch(empty):
    """All in one process: the last one would not be quicker than the first."""
    script = (
        "import sys\nfrom teddy import cli\n"
        f"for words in {ONE_OF_EACH!r}:\n"
        "    sys.argv[1:] = words\n    assert cli.main() == 2, words\n"
        f"    assert not {HEAVY - {'numpy'}!r} & set(sys.modules), words\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1]), "HOME": str(empty)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("teddy: ") == len(ONE_OF_EACH)
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("folder", ["dataset", "pool", "baseline"])
def test_what_a_file_names_can_be_made_without_torch(folder):
    """For each ``_target_`` that a command may build before it refuses something else."""
    found = {
        line.split("_target_:")[1].strip().rpartition(".")[0]
        for file in (config_dir() / folder).glob("*.yaml")
        for line in file.read_text().splitlines()
        if "_target_:" in line
    }
    assert found
    script = f"import sys, {', '.join(sorted(found))}\nassert not {HEAVY - {'numpy'}!r} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_a_wrong_key_ends_the_real_command_before_torch_is_loaded(empty):
    code, out, err, packages = python_m_teddy(empty, "+experiment=quickstart", "synthesis.ipcc=3")
    assert (code, out) == (2, "")
    assert err.startswith("teddy: There is no key 'synthesis.ipcc'; did you mean 'synthesis.ipc'?")
    assert "\n" not in err
    assert not packages & HEAVY
    assert list(empty.iterdir()) == []


def test_the_process_ends_with_its_code_when_everybody_had_their_turn(empty):
    """What libraries registered for the end is run, nothing printed is lost, though torch is never taken apart."""
    script = (
        "import atexit, sys\nfrom teddy import __main__ as command\n"
        "class Torch:\n    def __del__(self): print('taken apart', flush=True)\n"
        "def main():\n    atexit.register(print, 'their turn')\n    sys.modules['torch'] = Torch()\n"
        "    sys.stdout.write('no newline ')\n    return 7\n"
        "command.main = main\nsys.exit(command.run())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "no newline their turn\n", "")
