"""Each kind of complaint of Hydra, OmegaConf and the YAML parser, as the one sentence that a person reads."""

from __future__ import annotations

import pytest

from teddy.config.errors import UserError
from teddy.config.messages import is_about_config, known_keys, sentence, unknown_key
from teddy.config.paths import config_dir

METHODS = ", ".join(sorted(file.stem for file in (config_dir() / "method").glob("*.yaml"))) + "."
DATASETS = (
    "; choose one of cifar10, cifar100, cifar10_hf, fashion_mini, fashion_mnist, hf, imagefolder, imagenet, imagenet_shards, "
    "own, shapes, tiny_imagenet, voc."
)
EXPERIMENTS = (
    "; choose one of " + ", ".join(sorted(file.stem for file in (config_dir() / "experiment").glob("[!_]*.yaml"))) + "."
)
HELP = "; 'python -m teddy --help' lists groups and experiments."


def complaint(jobs, *words: str) -> str:
    """What the command says to these words."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the libraries raise, it must become a sentence
        jobs(*words)
    error = caught.value
    if isinstance(error, UserError):
        return str(error)
    assert is_about_config(error)
    return sentence(error)


COMMAND_LINE = [
    ("synthesis.ipcc=3", "There is no key 'synthesis.ipcc'; did you mean 'synthesis.ipc'?" + HELP),
    ("sed=3", "There is no key 'sed'; did you mean 'seed'?" + HELP),
    ("ipc=3", "There is no key 'ipc'; did you mean 'synthesis.ipc'?" + HELP),
    ("xyzzy=3", "There is no key 'xyzzy'" + HELP),
    ("datasett=cifar10", "There is no key 'datasett'; did you mean 'dataset'?" + HELP),
    (
        "evaluation.protocols.paper.epoch=3",
        "There is no key 'evaluation.protocols.paper.epoch'; did you mean 'evaluation.protocols.paper.epochs'?" + HELP,
    ),
    ("hydra.foo=1", "There is no key 'hydra.foo'" + HELP),
    ("dataset=imagnet", "There is no config file 'dataset/imagnet'; did you mean 'imagenet'?" + DATASETS),
    (
        "method=[tedy]",
        "There is no config file 'method/tedy'; did you mean 'teddy'?; choose one of " + METHODS,
    ),
    (
        "logger=[csv,wanddb]",
        "There is no config file 'logger/wanddb'; did you mean 'wandb'?; choose one of csv, mlflow, offline, online, "
        "tensorboard, wandb.",
    ),
    ("methods.teddy.bnweight=1", "There is no key 'methods.teddy.bnweight'" + HELP),
    ("experiment=quickstart", "experiment has no default to replace: write +experiment=NAME" + HELP),
    ("synthesis=3", "A group of conf/ takes the name of one of its files, or a list of them" + HELP),
    ("synthesis.ipc=abc", "synthesis.ipc must be a whole number, not 'abc'."),
    ("synthesis.ipc=", "synthesis.ipc must be a whole number, not ''."),
    ("synthesis.ipc=null", "synthesis.ipc must have a value, not null."),
    ("synthesis.lr=fast", "synthesis.lr must be a number, not 'fast'."),
    ("seed=1.5", "seed must be a whole number, not '1.5'."),
    ("dataset.augment.flip=perhaps", "dataset.augment.flip must be true or false, not 'perhaps'."),
    ("stages=pool", "stages must be a list such as [a,b]."),
    ("synthesis.betas=[a,b]", "synthesis.betas[0] must be a number, not 'a'."),
    ("name=???", "name has no value; set it in its file or write name=VALUE."),
    ("dataset.holdout=???", "dataset.holdout has no value; set it in its file or write dataset.holdout=VALUE."),
    ("synthesis.ipc=${nope}", "synthesis.ipc: Interpolation key 'nope' not found."),
    (
        "synthesis.ipc=1,2",
        "synthesis.ipc=1,2 stands for several values: add -m to run each of them, or write 'synthesis.ipc=[1,2]' for a list.",
    ),
    ("+experiment=a,b", "+experiment=a,b stands for several values: add -m to run each of them."),
    ("seed=range(3)", "seed=range(3) stands for several values: add -m to run each of them."),
    ("+seed=3", "seed exists already: write it without the +."),
    ("foo", "'foo' cannot be read; an override is KEY=VALUE, in quotes if it holds spaces or brackets."),
    (
        "stages=[pool",
        "'stages=[pool' cannot be read; an override is KEY=VALUE, in quotes if it holds spaces or brackets.",
    ),
    ("~synthesis.ipc", "synthesis.ipc: SynthesisConfig (DictConfig) does not support deletion."),
    ("~synthesis.nope", "Could not delete from config. 'synthesis.nope' does not exist."),
]


@pytest.mark.parametrize(("word", "expected"), COMMAND_LINE, ids=[word for word, _ in COMMAND_LINE])
def test_a_wrong_word(jobs, word, expected):
    assert complaint(jobs, word) == expected


def test_a_choice_that_does_not_exist_lists_the_options_however_many(jobs):
    experiments = sorted(file.stem for file in (config_dir() / "experiment").glob("[!_]*.yaml"))
    assert len(experiments) > 30
    sentence = complaint(jobs, "+experiment=quikstart")
    assert sentence.startswith(
        "There is no config file 'experiment/quikstart'; did you mean 'quickstart'?; choose one of "
    )
    assert all(f" {name}," in sentence for name in experiments[:-1])


GLOBAL = "# @package _global_\n"
FILES = [
    ("experiment", GLOBAL + "sed: 1", "There is no key 'sed' in experiment/x.yaml; did you mean 'seed'?" + HELP),
    (
        "experiment",
        GLOBAL + "synthesis: {ipcc: 3}",
        "There is no key 'synthesis.ipcc' in experiment/x.yaml; did you mean 'synthesis.ipc'?" + HELP,
    ),
    (
        "experiment",
        GLOBAL + "evaluation: {protocols: {paper: {epoch: 3}}}",
        "There is no key 'evaluation.protocols.paper.epoch' in experiment/x.yaml; did you mean "
        "'evaluation.protocols.paper.epochs'?" + HELP,
    ),
    (
        "experiment",
        GLOBAL + "synthesis: {ipc: many}",
        "synthesis.ipc in experiment/x.yaml must be a whole number, not 'many'.",
    ),
    (
        "experiment",
        GLOBAL + "synthesis: {ipc: null}",
        "synthesis.ipc in experiment/x.yaml must have a value, not null.",
    ),
    ("experiment", GLOBAL + "stages: pool", "stages in experiment/x.yaml must be a list such as [a,b]."),
    ("experiment", "seed: 1", "The file experiment/x.yaml must begin with the line '# @package _global_'."),
    ("experiment", "", "The file experiment/x.yaml must begin with the line '# @package _global_'."),
    ("sweep", "hydra: {mode: MULTIRUN}", "The file sweep/x.yaml must begin with the line '# @package _global_'."),
    ("sweep", GLOBAL + "hydra: {mod: MULTIRUN}", "There is no key 'hydra.mod' in sweep/x.yaml" + HELP),
    (
        "experiment",
        GLOBAL + "defaults: [{override /datasett: cifar10}]",
        "There is no key 'datasett' in experiment/x.yaml; did you mean 'dataset'?" + HELP,
    ),
    (
        "experiment",
        GLOBAL + "defaults: [{override /dataset: cifar11}]",
        "There is no config file 'dataset/cifar11'; did you mean 'cifar10'?" + DATASETS,
    ),
    (
        "experiment",
        GLOBAL + "defaults: [quikstart]",
        "There is no config file 'experiment/quikstart', which is named in experiment/x.yaml; did you mean 'quickstart'?"
        + EXPERIMENTS,
    ),
    (
        "experiment",
        GLOBAL + "defaults: {a: b}",
        "Invalid defaults list in 'experiment/x', defaults must be a list (got mapping).",
    ),
    ("experiment", GLOBAL + "[1, 2]", "Cannot merge DictConfig with ListConfig (in experiment/x.yaml)."),
    (
        "experiment",
        GLOBAL + "synthesis: 3",
        "Merge error: int is not a subclass of SynthesisConfig. value: 3 (in experiment/x.yaml).",
    ),
    (
        "dataset",
        "defaults: [fashion_mini, _self_]\nnme: x",
        "There is no key 'dataset.nme' in dataset/x.yaml; did you mean 'dataset.name'?" + HELP,
    ),
    ("dataset", "nme: x", "There is no key 'dataset.nme' in dataset/x.yaml; did you mean 'dataset.name'?" + HELP),
    (
        "synthesis",
        "defaults: [default, _self_]\nview: {scale: 0.5}",
        "There is no key 'synthesis.view.scale' in synthesis/x.yaml; did you mean 'synthesis.view.min_scale'?" + HELP,
    ),
    ("model", "nme: convnet3", "There is no key 'model.nme' in model/x.yaml; did you mean 'model.name'?" + HELP),
    (
        "model",
        "defaults: [schema, _self_]",
        "model.name has no value; set it in its file or write model.name=VALUE.",
    ),
]


@pytest.mark.parametrize(
    ("group", "text", "expected"), FILES, ids=[f"{group}: {text[-30:]}" for group, text, _ in FILES]
)
def test_a_wrong_file(jobs, tmp_path, group, text, expected):
    (tmp_path / group).mkdir()
    (tmp_path / group / "x.yaml").write_text(text + "\n")
    choice = {"experiment": "+experiment=x", "sweep": "+sweep=x"}.get(group, f"{group}=x")
    assert complaint(jobs, "--config-dir", str(tmp_path), choice) == expected


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        ("synthesis: {ipc: 3\nseed: 1", 3, "expected ','"),
        ("seed: 1\nseed: 2", 3, "found duplicate key seed"),
        ("a: b: c", 2, ""),
    ],
)
def test_what_is_not_yaml_is_named_with_its_line(jobs, tmp_path, text, line, fragment):
    file = tmp_path / "experiment" / "x.yaml"
    file.parent.mkdir()
    file.write_text(GLOBAL + text + "\n")
    said = complaint(jobs, "--config-dir", str(tmp_path), "+experiment=x")
    assert said.startswith(f"{file}, line {line}: ")
    assert fragment in said


def test_a_file_of_ours_is_named_with_its_folder():
    assert "in conf/dataset/cifar10.yaml" in sentence(ValueError("In 'dataset/cifar10': nonsense raised"))


def test_an_error_of_our_own_code_is_not_blamed_on_the_user():
    assert not is_about_config(ValueError("a bug"))
    assert not is_about_config(KeyError("a bug"))
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("a bug")
    assert not is_about_config(caught.value)


def test_the_schema_is_walked_through_optionals_and_named_sections():
    keys = set(known_keys())
    assert {"seed", "pool.training.lr", "synthesis.view.shift"} <= keys
    assert {"evaluation.protocols.*.eta", "pool.size", "methods"} <= keys
    assert "did you mean 'evaluation.protocols.mine.eta'?" in unknown_key("evaluation.protocols.mine.etta")
