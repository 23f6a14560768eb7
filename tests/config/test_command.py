"""A command line is read as Hydra reads it, and each of its jobs is composed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from teddy.config.command import (
    QUICKSTART,
    SEARCH_WORDS,
    Command,
    check_search,
    key_of,
    read_command,
    to_yaml,
    with_sweep_file,
    word_of,
)
from teddy.config.errors import UserError
from teddy.config.paths import config_dir


def words(*argv: str) -> list[str]:
    command = read_command(argv)
    return [*command.overrides, *command.options]


def test_overrides_and_options_may_alternate():
    assert words("+experiment=a", "-m", "seed=1,2", "--config-dir", ".", "name=b") == [
        *("+experiment=a", "seed=1,2", "name=b"),
        *("--multirun", "--config-dir=."),
    ]


@pytest.mark.parametrize(
    ("argv", "quickstart"),
    [
        ([], True),
        (["seed=3"], True),
        (["-m", "synthesis.ipc=1,2"], True),
        (["+sweep=ipc"], True),
        (["+experiment=imagenet_ipc10_prior"], False),
        (["++experiment=x"], False),
        (["experiment=x"], False),  # wrong, but meant: Hydra's complaint must be about this word
        (["--config-name", "mine"], False),
        (["-cp", "/somewhere"], False),
    ],
)
def test_the_quick_start_is_the_experiment_of_those_who_name_none(argv, quickstart):
    assert (QUICKSTART in words(*argv)) == quickstart


@pytest.mark.parametrize(
    ("argv", "fragment"),
    [
        (["--bogus"], "There is no option --bogus; 'python -m teddy --hydra-help' lists them."),
        (["-x", "seed=1"], "There is no option -x"),
        (["--config-d=."], "There is no option --config-d"),
        (["--config-dir"], "--config-dir needs a value"),
        (["seed=1", "-cd"], "--config-dir needs a value"),
        (["--allow"], "--allow needs a value"),
        (["--config-dir", "/does/not/exist"], "--config-dir /does/not/exist is not a folder"),
        (["--experimental-rerun", "config.pickle"], "would load a pickle"),
        (["--experimental-rerun=config.pickle"], "would load a pickle"),
    ],
)
def test_options_that_cannot_be_used(argv, fragment):
    with pytest.raises(UserError) as caught:
        read_command(argv)
    assert fragment in str(caught.value)


@pytest.mark.parametrize("argv", [["--help"], ["--hydra-help"], ["--cfg", "job"], ["-c=job"], ["--info"], ["-h"]])
def test_a_question_composes_no_job(jobs, argv):
    assert read_command(argv).asks
    assert jobs("synthesis.ipc=0", *argv) == []


def test_what_is_asked_of_info_is_no_override():
    assert words("--info", "searchpath", "seed=1") == ["seed=1", QUICKSTART, "--info=searchpath"]
    assert words("-i") == [QUICKSTART, "--info"]


def test_packages_are_allowed_for_this_process_and_the_ones_it_starts(monkeypatch):
    monkeypatch.setenv("TEDDY_ALLOW", "one")
    assert words("--allow", "two", "seed=1", "--allow=three") == ["seed=1", QUICKSTART]
    assert os.environ["TEDDY_ALLOW"] == "one,two,three"


@pytest.mark.parametrize(
    ("argv", "several"),
    [
        (["seed=1"], False),
        (["-m"], True),
        (["--multirun", "seed=1,2"], True),
        (["+sweep=ipc"], True),
        (["hydra.mode=MULTIRUN"], True),
        (["-m", "hydra.mode=RUN"], False),
    ],
)
def test_what_stands_for_several_jobs(argv, several):
    assert read_command(argv).multirun == several


def test_files_that_are_not_ours_are_known(tmp_path):
    assert not read_command(["seed=1"]).foreign
    for argv in (["-cd", str(tmp_path)], [f"--config-path={tmp_path}"], ["+hydra.searchpath=[x]"]):
        assert read_command(argv).foreign


def test_what_is_typed_stands_in_for_the_sweep_file():
    overrides = ("+sweep=teacher_stage", "pool.size=3", QUICKSTART)
    command = with_sweep_file(Command(overrides, {}))
    assert command.overrides == (
        *("pool.first=1,11,21,31", "pool.last=null", "evaluation.divergence=True"),
        *overrides,
        "hydra.sweeper.params=null",
    )
    for overrides in (("+sweep=teacher_stage", "seed=1"), ("+sweep=nope",), ("seed=1,2",)):
        assert with_sweep_file(Command(overrides, {})).overrides == overrides


def test_a_word_gives_a_key_the_value_it_was_made_from(jobs):
    numbers = [3, 0.25, 1e-7, 1e30, True, None, [0.5, 0.9], [1, None, False], {"crop": "none", "padding": 4}]
    texts = ["trained", "a 'b'", "it's", 'say "x"', "back\\slash", "end\\", "a,b", "[x]", "null", "1e5", "ü=1"]
    given = dict(enumerate([*numbers, *texts]))
    (config,) = jobs(*(word_of(f"++dataset.source.key{number}", value) for number, value in given.items()))
    read = {number: config.dataset.source[f"key{number}"] for number in given}
    assert repr(read) == repr(given)  # as True is 1


def test_a_number_in_place_of_a_method_is_named(jobs):
    with pytest.raises(UserError, match=r"methods\.teddy\._target_ must name a class .* not None"):
        jobs("methods.teddy=5")


@pytest.mark.parametrize("word", ["synthesis.ipc=5", "+synthesis.ipc=5=6", "++synthesis.ipc=", "~synthesis.ipc"])
def test_the_key_of_an_override(word):
    assert key_of(word) == "synthesis.ipc"


@pytest.mark.parametrize(
    ("argv", "fragment"),
    [
        (["search.trials=6"], "search.trials is a key of a search; name one with +search=NAME."),
        (["+search=teddy", "-m"], "leave out -m, +sweep and hydra.mode"),
        (["+search=teddy", "+sweep=ipc"], "leave out -m, +sweep and hydra.mode"),
        (["+search=teddy", "evaluation.split=test"], "evaluation.split belongs to the search"),
    ],
)
def test_words_that_do_not_go_together_with_a_search(argv, fragment):
    with pytest.raises(UserError) as caught:
        check_search(read_command(argv))
    assert fragment in str(caught.value)


def test_a_search_is_checked_unless_it_is_only_shown_or_was_checked_already():
    assert read_command(["+search=teddy", "search.trials=2"]).searches
    for argv in (["seed=1"], ["+search=teddy", "--cfg", "job"], ["+search=teddy", *SEARCH_WORDS]):
        command = read_command(argv)
        assert not command.searches
        check_search(command)


def test_without_a_sweep_there_is_one_job(jobs):
    (config,) = jobs("seed=3")
    assert (config.name, config.seed, config.dataset.name) == ("quickstart", 3, "fashion_mini")


def test_a_sweep_on_the_command_line_is_every_combination(jobs):
    configs = jobs("-m", "+experiment=quickstart", "synthesis.ipc=1,5", "seed=range(2)", "labels=online")
    assert [(one.synthesis.ipc, one.seed) for one in configs] == [(1, 0), (1, 1), (5, 0), (5, 1)]
    assert {one.labels.kind for one in configs} == {"online"}


def test_experiments_can_be_swept(jobs):
    configs = jobs("-m", "+experiment=quickstart,tiny_imagenet_ipc50_prior")
    assert [one.name for one in configs] == ["quickstart", "tiny_imagenet_ipc50_prior"]


def test_a_sweep_file_needs_no_flag(jobs):
    configs = jobs("+sweep=ipc", "+experiment=quickstart")
    assert [one.synthesis.ipc for one in configs] == [1, 10, 50]


def test_the_command_line_wins_over_the_sweep_file(jobs):
    assert [one.synthesis.ipc for one in jobs("+experiment=quickstart", "+sweep=ipc", "synthesis.ipc=2")] == [2]
    assert [one.synthesis.ipc for one in jobs("+sweep=ipc", "synthesis.ipc=2,3", "seed=1")] == [2, 3]
    assert len(jobs("+sweep=ipc", "hydra.mode=RUN")) == 1


def test_a_sweep_without_an_end_is_refused(jobs):
    for words in (["seed=range(0,1000000000)"], ["seed=range(0,40)", "synthesis.ipc=range(1,40)"]):
        with pytest.raises(UserError, match=r"more than 1,000 jobs; name fewer values"):
            jobs("-m", *words)


def test_two_commands_of_one_second_have_folders_of_their_own():
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        made = [compose("config", overrides=[QUICKSTART], return_hydra_config=True) for _ in range(2)]
    for part in ("run", "sweep"):
        assert len({node.hydra[part].dir for node in made}) == 2


def test_the_last_job_of_a_sweep_is_checked_too(jobs):
    with pytest.raises(UserError, match=r"^synthesis\.ipc=0 must be at least 1 and at most 10,000,000\.$"):
        jobs("-m", "synthesis.ipc=1,0")


def private(folder: Path) -> str:
    """A folder of private configurations with the experiment ``mine``."""
    (folder / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [quickstart, _self_]\nname: mine\nsynthesis: {ipc: 2}\n"
    (folder / "experiment" / "mine.yaml").write_text(text)
    return str(folder)


@pytest.mark.parametrize("folder", ["with space", "a=b, {c}", 'quote"d', "ünder"])
def test_private_experiments_are_found_in_any_folder(jobs, tmp_path, folder):
    (config,) = jobs("+experiment=mine", f"--config-dir={private(tmp_path / folder)}")
    assert (config.name, config.synthesis.ipc, config.dataset.name) == ("mine", 2, "fashion_mini")


def test_private_experiments_can_be_swept(jobs, tmp_path, monkeypatch):
    private(tmp_path / "relative")
    monkeypatch.chdir(tmp_path)
    configs = jobs("+sweep=ipc", "--config-dir", "relative", "+experiment=mine")
    assert [(one.name, one.synthesis.ipc) for one in configs] == [("mine", 1), ("mine", 10), ("mine", 50)]


def test_a_tilde_that_the_shell_left_alone_is_the_home_folder(jobs, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    (config,) = jobs("dataset=cifar10", "dataset.root=~/data/cifar10")
    assert config.dataset.root == config.dataset.source["root"] == "/home/someone/data/cifar10"
    assert words("name=a~/b") == ["name=a~/b", QUICKSTART]


def test_interpolations_are_resolved_and_environment_is_read(jobs, monkeypatch):
    monkeypatch.setenv("TEDDY_STORE", "/big/disk")
    (config,) = jobs("+experiment=quickstart", "model.name=convnet4", "method=converged")
    assert config.store == "/big/disk"
    assert config.evaluation.students == ["convnet4"]
    assert config.methods["converged"]["lr"] == config.synthesis.lr
    assert config.pool.strategy["last"] == config.pool.last


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("+typo=1", "typo"),
        ("+synthesis.typo=1", "synthesis.typo"),
        ("++dataset.augment.typo=1", "dataset.augment.typo"),
        ("+evaluation.protocols.paper.typo=1", "evaluation.protocols.paper.typo"),
    ],
)
def test_an_added_key_that_nothing_reads_is_refused(jobs, word, key):
    with pytest.raises(UserError, match=rf"^There is no key '{key}'"):
        jobs(word)


def test_numbers_for_a_method_that_was_not_chosen_are_left_out(jobs):
    (config,) = jobs("+experiment=imagenet_ipc10_prior")
    assert list(config.methods) == ["teddy", "random"]
    (config,) = jobs("+experiment=imagenet_ipc10_prior", "method=[sre2l,teddy]")
    assert list(config.methods) == ["sre2l", "teddy"]
    assert config.methods["sre2l"]["pool"]["base"] == "pretrained"
    with pytest.raises(UserError, match=r"^methods\.mine\._target_ must name a class"):
        jobs("+methods.mine.lr=3")


def test_the_whole_configuration_can_be_read_back(jobs):
    (config,) = jobs("+experiment=quickstart")
    text = to_yaml(config)
    assert "${" not in text
    assert yaml.safe_load(text) == dataclasses.asdict(config)


def test_a_primary_configuration_of_ones_own(jobs, tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match="has no schema; let it begin with"):
        jobs(f"--config-path={tmp_path}")
