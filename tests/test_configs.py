"""Every file in ``conf/`` composes, passes the checks and names things that exist; the paper's numbers are in it."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import shlex
from pathlib import Path

import pytest
import yaml

import site_parts
from teddy.config.build import build, factory_of
from teddy.config.checks import protocols
from teddy.config.command import check_jobs, read_command
from teddy.config.epochs import member_epochs, saved_epochs
from teddy.config.paths import config_dir
from teddy.config.schema import GROUPS, STAGES, TeddyConfig, register_schemas
from teddy.factory import protocol_list
from teddy.models.networks import check_network
from teddy.pool.strategy import PoolStrategy
from teddy.search import jobs_of_search
from teddy.synthesis.method import Method

register_schemas()

CONF = config_dir()
ROOT = CONF.parent
NAMING = ("method", "logger")  # groups of which several options may be chosen, each under its own name


def names(folder: str) -> list[str]:
    """Every option in a folder of ``conf/``; a leading underscore marks what only other files use."""
    return sorted(path.stem for path in (CONF / folder).glob("*.yaml") if path.name[0] != "_")


DM = {
    "labels": "hard",
    "augment": "dsa",
    "cutmix": 0,
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "batch_size": 256,
    "epochs": 1000,
    "schedule": "step",
    "milestones": [0.5],
    "gamma": 0.1,
}
"""DatasetCondensation's evaluation, for sets with augmentation."""
IDC = DM | {"augment": "dsa_strong", "cutmix": 0.5, "batch_size": 64, "milestones": [0.6667, 0.8333], "gamma": 0.2}
"""That of IDC and those who build on it."""


@functools.cache
def jobs(*words: str) -> list[TeddyConfig]:
    return check_jobs(read_command(words))


def composed(*words: str) -> TeddyConfig:
    (config,) = jobs(*words)
    return config


def assert_names_exist(config: TeddyConfig) -> None:
    """What ``teddy.plan`` builds can be built; the data may be absent."""
    if config.evaluation.task is not None:  # may bring networks of its own
        build("evaluation.task", config.evaluation.task)
    for network in (config.model.name, *config.evaluation.students):
        check_network(network)
    strategy = build("pool.strategy", config.pool.strategy, PoolStrategy)
    factory_of("dataset.source", config.dataset.source, complete=True)
    saved = saved_epochs(config.pool.training.epochs, config.pool.training.save_every)
    for name, node in config.methods.items():
        method = build(f"methods.{name}", node, Method)
        assert method.ipc == config.synthesis.ipc
        method.check((method.pool or strategy).members(saved))
    for name, node in config.logger.items():
        if name != "mlflow":  # an extra that is not installed
            factory_of(f"logger.{name}", node)
    for name, node in config.trainer.callbacks.items():
        build(f"trainer.callbacks.{name}", node)


# What an option needs beside it.
TOGETHER = {"pool=converged": ["synthesis.teachers_per_block=1"]}
OPTIONS = [(group, name) for group in (*GROUPS, *NAMING) for name in names(group)]


def test_every_folder_is_a_group_with_a_schema_or_holds_objects():
    folders = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert folders == {*GROUPS, *NAMING, "experiment", "sweep", "search", "launch", "hydra"}


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=[f"{group}={name}" for group, name in OPTIONS])
def test_every_option_of_a_group_works_alone(group, name):
    word = f"{group}=[{name}]" if group in NAMING else f"{group}={name}"
    config = composed(word, *TOGETHER.get(word, []))
    assert_names_exist(config)
    if group == "method":
        assert list(config.methods) == [name]
        node = config.methods[name]
        fields = {field.name for field in dataclasses.fields(build(f"methods.{name}", node, Method))}
        own = {"batch_size", "blocks_at_once", "augmentations"}  # of methods with blocks, and of those with a bank
        assert fields <= {*node, *own}, "a field that its file leaves out cannot be set on the command line"


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_is_whole(name):
    config = composed(f"+experiment={name}")
    assert config.name == name
    assert_names_exist(config)
    baselines = [build(f"methods.{key}", node, Method).baseline for key, node in config.methods.items()]
    assert any(baselines), "a number without its baseline is not a result"
    assert "report" in config.stages
    for key in config.paper:  # a row of the results, of a method of this run or of one that may stand beside it
        dataset, method, student, protocol, ipc = key.split("/")
        # Fashion-MNIST takes over CIFAR-10's settings, whose figures then stand beside nothing.
        assert dataset in (config.dataset.name, "cifar10" if name.startswith("fashion_mnist") else "")
        assert method in names("method")
        assert student in ("resnet18", "resnet18_cifar", *config.evaluation.students)
        assert protocol in protocols(config)
        assert ipc in ("ipc1", "ipc5", "ipc10", "ipc20", "ipc40", "ipc50", "ipc100")


WITH_NUMBERS = (
    "mini",
    "cifar10_ipc10_prior",
    "fashion_mnist_ipc10_prior",
    "imagenet_ipc10_prior",
    "tiny_imagenet_ipc50_prior",
)


@pytest.mark.parametrize("name", ["quickstart", *WITH_NUMBERS])
def test_the_numbers_for_a_method_that_is_not_chosen_are_right_as_well(name):
    assert_names_exist(composed(f"+experiment={name}", f"method=[{','.join(names('method'))}]"))


@pytest.mark.parametrize("name", names("sweep"))
def test_every_sweep_makes_several_good_jobs_of_an_experiment(name):
    configs = jobs("+experiment=mini", f"+sweep={name}")
    assert len(configs) > 1
    different = [dataclasses.asdict(config) for config in configs]
    assert all(one != other for i, one in enumerate(different) for other in different[:i])
    for config in configs:
        assert_names_exist(config)


@pytest.mark.parametrize("name", names("search"))
def test_every_job_of_a_search_is_a_good_run_of_an_experiment(name):
    typed = ("+experiment=mini", f"+search={name}", f"method=[{name},random]")
    configs = [composed(*job) for job in jobs_of_search(composed(*typed), typed)]
    assert [config.evaluation.split for config in configs] == ["heldout", "test"] * (len(configs) // 2)
    for config in configs[:4]:
        assert_names_exist(config)
    trials = [dataclasses.asdict(config) for config in configs[::2]]
    assert len(trials) > 1
    assert all(one != other for i, one in enumerate(trials) for other in trials[:i])


@pytest.mark.parametrize("name", ["quickstart", *WITH_NUMBERS])
def test_a_post_pool_is_one_word_away_from_a_prior_pool(name):
    config = composed(f"+experiment={name}", "pool=post")
    assert (config.pool.strategy["_target_"], config.pool.base) == ("teddy.pool.post.PostPool", "trained")
    assert config.pool.size == 10
    assert config.pool.training == composed(f"+experiment={name}").pool.training


@pytest.mark.parametrize("name", names("launch"))
def test_every_launcher_takes_the_jobs_of_a_sweep(name):
    assert len(jobs("+experiment=mini", "+sweep=ipc", f"+launch={name}")) == 3


def test_every_file_says_what_it_is_for():
    silent = [str(path) for path in CONF.rglob("*.yaml") if "hydra" not in path.parts and "#" not in path.read_text()]
    assert not silent


SOURCES = sorted((ROOT / "src" / "teddy").rglob("*.py"))
# The package's own name, a word of English and Python's module, the augmentation, and pool/single.py's label mention no method.
METHOD_WORDS = re.compile(
    rf"\b({'|'.join(name for name in names('method') if name not in ('teddy', 'random', 'dsa'))})\b", re.I
)
METHOD_STRINGS = re.compile(
    rf"\[?({'|'.join(names('method'))})\]?|.*\bmethods?(=|\.|/)\[?({'|'.join(names('method'))})\b.*", re.S
)
# The scripts that a form of export is for have the name of their method; teddy.distill has a default, the protocol dm is named
# like a method, and teddy.score is a front to one.
OTHERWISE = {
    ("pool/single.py", "converged"),
    ("export/__main__.py", "sre2l"),
    ("export/fkd.py", "SRe2L"),
    ("api.py", "classwise"),
    ("api.py", "dm"),
    ("score.py", "foreign"),
    ("score.py", "methods.foreign"),
}


def strings(path: Path) -> list[str]:
    """Every string of a file that is no docstring."""
    tree = ast.parse(path.read_text())
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in nodes if id(node) not in prose]


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT / "src" / "teddy")) for path in SOURCES])
def test_the_core_names_no_method_and_nothing_internal_of_hydra(path):
    inside = str(path.relative_to(ROOT / "src" / "teddy"))
    assert "hydra." + "_internal" not in path.read_text()
    if inside.startswith("methods/"):
        return
    text = " ".join(strings(path))
    identifiers = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    found = {match[1] for match in METHOD_WORDS.finditer(" ".join([text, *identifiers]))}
    assert {(inside, word) for word in found} <= OTHERWISE
    named = [one for one in strings(path) if METHOD_STRINGS.fullmatch(one) and one not in ("teddy", "dsa")]
    assert {(inside, one) for one in named} <= OTHERWISE


# The paper's figures, typed from its tables by hand. Table 6, prior generation: its batch size for ImageNet-1K, 32, is the one
# per GPU of torchvision's recipe on eight GPUs; its training lengths (41, 61, 71; 46, 50) are the ends of the pools, which are
# cut from one run here.
IMAGENET_6 = dict(lr=0.1, momentum=0.9, weight_decay=1e-4, batch_size=32 * 8, schedule="step", step_size=30, epochs=71)
TINY_6 = dict(lr=0.2, weight_decay=1e-4, batch_size=256, schedule="cosine", epochs=50)
STAGES_OF_TEACHERS = {
    "imagenet_ipc10_prior": [1, 6, 11, 16, 21, 26, 31, 36, 41],  # "1-41, with step 5", pool size 9
    "imagenet_ipc50_prior": [21, 26, 31, 36, 41, 46, 51, 56, 61],  # "21-61, with step 5"
    "imagenet_ipc100_prior": [31, 36, 41, 46, 51, 56, 61, 66, 71],  # "31-71, with step 5"
    "tiny_imagenet_ipc50_prior": [11, 16, 21, 26, 31, 36, 41, 46],  # "11-46, with step 5", pool size 8
    "tiny_imagenet_ipc100_prior": [16, 21, 26, 31, 36, 41, 46, 50],  # "16-50, with step 5", pool size 8
}
# Table 6, post-generation: SGD from 0.1 to 0.001 in steps, momentum 0.9, weight decay 1e-4, batch 32, 0-2 epochs.
POST_6 = dict(lr=0.1, lr_end=0.001, momentum=0.9, weight_decay=1e-4, batch_size=32, epochs=2.0)
POST_SIZE = {"imagenet": 10, "tiny_imagenet": 9}
# Table 7: prior and post differ in the number of teachers only.
SYNTHESIS_7 = {
    "imagenet": dict(lr=0.25, bn_weight=0.01, betas=[0.5, 0.9], batch_size=100, iterations=6000),
    "tiny_imagenet": dict(lr=0.1, bn_weight=1.0, betas=[0.5, 0.9], batch_size=100, iterations=4000),
}
TEACHERS_7 = {
    ("imagenet", "prior"): 3,
    ("imagenet", "post"): 4,
    ("tiny_imagenet", "prior"): 3,
    ("tiny_imagenet", "post"): 5,
}
# Sec. D.3: AdamW with (0.9, 0.999), cosine, CutMix, labels of the model pool.
STUDENT_D3 = dict(
    labels="soft", augment="views", optimizer="adamw", lr=1e-3, weight_decay=0.01, schedule="cosine", eta=1.0
)
TABLE_1 = {
    ("imagenet", "prior"): {10: [34.1, 0.1], 50: [52.5, 0.1], 100: [56.5, 0.1]},
    ("imagenet", "post"): {10: [32.7, 0.2], 50: [52.5, 0.1], 100: [56.2, 0.2]},
    ("imagenet", "sre2l"): {10: [21.3, 0.6], 50: [46.8, 0.2], 100: [52.8, 0.3]},
    ("imagenet", "random"): {10: [6.8, 0.1], 50: [32.0, 0.2], 100: [45.7, 0.1]},
    ("tiny_imagenet", "prior"): {50: [45.2, 0.1], 100: [52.0, 0.2]},
    ("tiny_imagenet", "post"): {50: [44.5, 0.2], 100: [51.4, 0.2]},
    ("tiny_imagenet", "sre2l"): {50: [41.1, 0.4], 100: [49.7, 0.3]},
    ("tiny_imagenet", "random"): {50: [18.2, 0.2], 100: [25.0, 0.2]},
}
TABLE_2 = {
    "prior": dict(
        resnet50=[39.0, 0.1],
        resnet101=[40.3, 0.1],
        densenet121=[34.3, 0.1],
        mobilenet_v2=[23.4, 0.3],
        shufflenet_v2_x1_0=[38.5, 0.1],
        efficientnet_b0=[29.2, 0.1],
    ),
    "post": dict(
        resnet50=[37.9, 0.1],
        resnet101=[40.0, 0.1],
        densenet121=[33.0, 0.1],
        mobilenet_v2=[20.5, 0.1],
        shufflenet_v2_x1_0=[40.0, 0.3],
        efficientnet_b0=[27.3, 0.2],
    ),
    "sre2l": dict(
        resnet50=[28.4, 0.1],
        resnet101=[30.9, 0.1],
        densenet121=[21.5, 0.5],
        mobilenet_v2=[10.2, 0.2],
        shufflenet_v2_x1_0=[29.1, 0.1],
        efficientnet_b0=[16.1, 0.1],
    ),
}
PAPERS = [f"{data}_ipc{ipc}_{kind}" for data in SYNTHESIS_7 for ipc in (10, 50, 100) for kind in ("prior", "post")]


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_settings(name):
    data, kind = re.fullmatch(r"(.*)_ipc\d+_(.*)", name).groups()
    config = composed(f"+experiment={name}")
    pool, training = config.pool, dataclasses.asdict(config.pool.training)

    table_6 = IMAGENET_6 if data == "imagenet" else TINY_6
    assert {key: training[key] for key in table_6} == table_6
    if name in STAGES_OF_TEACHERS:
        saved = saved_epochs(pool.training.epochs, pool.training.save_every)
        assert member_epochs(pool.first, pool.last, pool.every, pool.size, saved) == STAGES_OF_TEACHERS[name]
    if kind == "post":
        assert {key: pool.strategy[key] for key in POST_6} == POST_6
        assert pool.size == pool.strategy["size"] == POST_SIZE[data]
        if data == "imagenet":  # Sec. D.1: 1.2 GFLOPs (of multiply-adds) and 7.72 M parameters
            assert (pool.strategy["macs"], pool.strategy["parameters"], pool.base) == (1.2e9, 7.72e6, "pretrained")
    assert {key: getattr(config.synthesis, key) for key in SYNTHESIS_7[data]} == SYNTHESIS_7[data]
    assert config.synthesis.teachers_per_block == TEACHERS_7[data, kind]
    assert config.synthesis.ipc == int(re.search(r"ipc(\d+)", name)[1])
    assert config.synthesis.initial == "noise"

    # Sec. 4.1: ResNet-18, for Tiny-ImageNet with a 3x3 first convolution of stride 1 and without max-pooling.
    assert config.model.name == ("resnet18" if data == "imagenet" else "resnet18_cifar")
    assert config.evaluation.students == [config.model.name]
    ((protocol_name, protocol),) = protocol_list(config).items()
    assert {key: getattr(protocol, key) for key in STUDENT_D3} == STUDENT_D3
    assert (protocol.epochs, protocol.batch_size) == ((300, 1024) if data == "imagenet" else (100, 256))
    assert (config.labels.mix, config.labels.members) == ("cutmix", "all")
    assert config.paper == {
        f"{config.dataset.name}/{method}/{config.model.name}/{protocol_name}/ipc{ipc}": values
        for method, column in (("teddy", kind), ("sre2l", "sre2l"), ("random", "random"))
        for ipc, values in TABLE_1[data, column].items()
    }


@pytest.mark.parametrize("kind", TABLE_2)
def test_table_2(kind):
    config = composed(f"+experiment=imagenet_ipc10_{kind}_cross_arch")
    assert config.evaluation.students == list(TABLE_2[kind])
    method = "sre2l" if kind == "sre2l" else "teddy"
    printed = {f"imagenet/{method}/{student}/paper/ipc10": values for student, values in TABLE_2[kind].items()}
    assert printed.items() <= config.paper.items()
    # The very images of Table 1: nothing that they depend on differs.
    table_1 = composed(f"+experiment=imagenet_ipc10_{kind}")
    parts = ("pool", "synthesis", "labels", "methods")
    assert [getattr(config, part) for part in parts] == [getattr(table_1, part) for part in parts]


# Table 4, right: images altogether, "baseline" and "Ours".
TABLE_4_RIGHT = {10: (3.6, 6.4), 20: (5.6, 10.4), 40: (9.9, 15.3)}


@pytest.mark.parametrize("images", TABLE_4_RIGHT)
def test_table_4_right(images):
    config = composed(f"+experiment=voc_{images}")
    assert (config.synthesis.ipc, config.dataset.name, config.dataset.num_classes) == (images, "voc", 20)
    assert config.model.name == "fasterrcnn_resnet50_fpn_imagenet"
    assert config.evaluation.students == [config.model.name]
    assert config.paper == {
        f"voc/{method}/{config.model.name}/detection/ipc{count}": [value]
        for count, row in TABLE_4_RIGHT.items()
        for method, value in zip(("sre2l", "teddy"), row, strict=True)
    }


@pytest.mark.parametrize(("low", "published"), [(60, (24.2, 32.7, 36.0)), (40, (23.4, 33.6, 35.6))])
def test_table_3(low, published):
    config = composed(f"+experiment=tiny_imagenet_ipc20_imbalanced_{low}")
    assert (config.synthesis.ipc, config.dataset.name) == (20, "tiny_imagenet")
    assert config.dataset.keep == [low / 100, 1.0]
    methods = ("sre2l", "teddy", "classwise")
    assert tuple(config.paper[f"tiny_imagenet/{name}/resnet18_cifar/paper/ipc20"][0] for name in methods) == published
    assert {*methods, "balanced", "random"} == set(config.methods)


def test_figure_3e():
    """Tiny-ImageNet, IPC 50, five steps of GDumb (Sec. 4.6), with the images of Table 1."""
    config = composed("+experiment=tiny_imagenet_continual")
    assert (config.dataset.name, config.synthesis.ipc) == ("tiny_imagenet", 50)
    assert (config.evaluation.task["steps"], config.evaluation.task["mode"]) == (5, "paper")
    table_1 = composed("+experiment=tiny_imagenet_ipc50_prior")
    assert [config.pool, config.methods["teddy"]] == [table_1.pool, table_1.methods["teddy"]]
    assert {"sre2l", "dm", "herding", "random", "classwise"} <= set(config.methods)


@pytest.mark.parametrize(("ipc", "sre2l", "teddy"), [(5, 5.4, 21.0), (10, 17.8, 37.2), (50, 48.4, None)])
def test_table_4(ipc, sre2l, teddy):
    for name in (
        f"imagenet_resnet50_ipc{ipc}",
        f"imagenet_resnet50_ipc{ipc}_sre2l",
        f"imagenet_resnet50_ipc{ipc}_random",
    ):
        config = composed(f"+experiment={name}")
        assert (config.model.name, config.evaluation.students) == ("resnet50", ["resnet50"])
        assert config.synthesis.ipc == ipc
        assert config.paper[f"imagenet/sre2l/resnet50/paper/ipc{ipc}"] == [sre2l]
        assert config.paper.get(f"imagenet/teddy/resnet50/paper/ipc{ipc}") == (teddy and [teddy])


@pytest.mark.parametrize("dataset", ["imagenet", "tiny_imagenet"])
def test_one_training_run_serves_all_pools_of_a_dataset(dataset):
    """Whatever a trajectory's fingerprint covers is the same in them."""
    configs = [composed(f"+experiment={name}") for name in STAGES_OF_TEACHERS if name.startswith(dataset)]
    assert len(configs) == {"imagenet": 3, "tiny_imagenet": 2}[dataset]
    shared = [
        (config.pool.training, config.dataset, config.model, config.seed, config.trainer, config.store)
        for config in configs
    ]
    assert all(one == shared[0] for one in shared)
    assert len({config.pool.first for config in configs}) == len(configs)


# ``python -m teddy …`` or ``teddy …`` as people write it: after a prompt, an environment variable, srun, a folder of programs.
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:srun )?(?:\S*python3? -m teddy|\S*\bteddy)(?=\s|$)(.*)$")


def commands(text: str) -> list[str]:
    """The words after ``teddy`` in every fenced block of a Markdown text, and after ``python -m teddy`` in a line of it."""
    fence = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    lines = "".join(fence.findall(text)).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`(python -m teddy(?:\s[^`]*)?)`", fence.sub("", text))
    whole = [" ".join(one.split()) for one in inline if not re.search(r"NAME|FOLDER|…", one)]
    return [match[1].strip() for line in [*lines, *whole] if (match := COMMAND.match(line.strip()))]


def test_commands_are_found_in_fenced_blocks_and_in_lines():
    text = "python -m teddy outside\n```\n$ python -m teddy a=1\nteddy b=1 \\\n  c=2 # why\npip install teddy\n```\n"
    assert commands(text) == ["a=1", "b=1    c=2 # why"]
    assert commands("`teddy`, `python -m teddy +experiment=NAME` and `python -m teddy\nd=1`") == ["d=1"]
    assert commands("```\nsrun .venv/bin/python -m teddy e=1\n```\n") == ["e=1"]


# Every page of the site (scripts/site_hooks.py), as it is there.
PAGES = ["*.md", "docs/**/*.md", "experiments/**/*.md", "benchmarks/README.md"]
WRITTEN = [
    (path.name, words)
    for pattern in PAGES
    for path in sorted(ROOT.glob(pattern))
    for words in commands(site_parts.filled(path.read_text()))
]
RECORDED = [
    (path.parent.name, words)
    for path in sorted((ROOT / "experiments").glob("*/record.yaml"))
    for kind in ("full", "mini")
    for words in yaml.safe_load(path.read_text()).get(kind, [])
]
# Where each command is first to be read; most of a record's are on a page as well.
COMMANDS = {tuple(shlex.split(words, comments=True)): place for place, words in [*WRITTEN, *RECORDED][::-1]}


def test_the_readme_shows_commands():
    assert len([name for name, _ in WRITTEN if name == "README.md"]) > 5


@pytest.mark.parametrize("argv", COMMANDS, ids=[f"{place}: {shlex.join(argv)}" for argv, place in COMMANDS.items()])
def test_the_commands_of_the_documentation_and_of_the_records_work(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in argv:
        if word.startswith("pool.base=") and word.endswith(".safetensors"):
            (tmp_path / word.removeprefix("pool.base=")).touch()
    if any(word.startswith("--config-dir") or word == "--allow" for word in argv):
        pytest.skip("needs a folder or a package of the reader's; tests/plugin/test_own_method.py runs such commands")
    configs = jobs(*argv)
    assert configs or {"--cfg", "--help"} & {word.partition("=")[0] for word in argv}
    for config in configs:
        assert_names_exist(config)


def test_the_examples_of_the_help_work():
    footer = yaml.safe_load((CONF / "hydra" / "help" / "teddy.yaml").read_text())["footer"]
    lines = [COMMAND.match(re.split(r"\s{3,}", line)[0]) for line in footer.splitlines() if line.strip()]
    assert lines
    assert all(lines)
    for line in lines:
        jobs(*shlex.split(line[1]))


def test_deterministic_runs_do_not_depend_on_the_number_of_cores():
    trainer = composed("trainer=deterministic").trainer
    assert (trainer.deterministic, trainer.precision, trainer.threads) == (True, "32-true", 1)


def test_the_stages_run_in_their_order_by_default():
    assert composed().stages == list(STAGES) == ["pool", "synthesis", "labels", "evaluation", "report"]


def test_the_protocols_of_the_dc_and_idc_families() -> None:
    (config,) = jobs("evaluation.protocol=mtt", "evaluation.epochs=null", "evaluation.batch_size=null")
    assert {key: getattr(protocol_list(config)["mtt"], key) for key in DM} == DM
    assert protocol_list(config, learned_lr=0.02)["mtt"].lr == 0.02
    (config,) = jobs("evaluation.protocol=[dm,idc]", "evaluation.epochs=null", "evaluation.batch_size=null")
    for protocol, published in zip(protocol_list(config).values(), (DM, IDC), strict=True):
        assert {key: getattr(protocol, key) for key in published} == published
    assert protocol_list(config, learned_lr=0.02)["dm"].lr == DM["lr"]


def test_table5_is_the_papers() -> None:
    """CIFAR-10 from real images, with 1, 10 and 50 images per class, and students of the DC family's protocol."""
    (config,) = jobs("+experiment=cifar10_table5")
    published = {
        "teddy/convnet3": (30.1, 53.0, 66.1),
        "sre2l/convnet3": (27.1, 44.7, 55.7),
        "dm/convnet3_in": (26.0, 48.9, 63.0),
    }
    for name, means in published.items():
        assert tuple(config.paper[f"cifar10/{name}/dm/ipc{ipc}"][0] for ipc in (1, 10, 50)) == means
    assert {"random", "herding", "rded", "mosaic", "dm", "sre2l", "teddy", "classwise", "classwise_tiles"} <= set(
        config.methods
    )
    assert config.labels.kind == "hard"
    assert config.evaluation.split == "test"


# N, M, start epochs, rates of the pixels, of the student's rate, and that rate at first; experts of 50 epochs.
TRAJECTORIES = {
    ("mtt", 1): (50, 2, 2, 100, 1e-7, 0.01),
    ("mtt", 10): (30, 2, 20, 100, 1e-5, 0.001),
    ("ftd", 1): (50, 2, 2, 100, 1e-7, 0.01),
    ("ftd", 10): (30, 2, 20, 100, 1e-5, 0.001),
    ("tesla", 1): (50, 2, 2, 100, 1e-7, 0.01),
    ("tesla", 10): (30, 2, 20, 100, 1e-5, 0.001),
}


@pytest.mark.parametrize("dataset", ["cifar10", "fashion_mnist"])
@pytest.mark.parametrize(("name", "ipc"), TRAJECTORIES)
def test_trajectory_matching_is_as_published(name: str, ipc: int, dataset: str) -> None:
    config = composed(f"+experiment={dataset}_ipc{ipc}_{name}")
    assert (config.dataset.name, config.synthesis.ipc, config.labels.kind) == (dataset, ipc, "hard")
    assert (protocols(config), config.evaluation.students) == (["mtt"], ["convnet3_in"])
    assert (config.dataset.zca, config.dataset.augment.dsa) == (0.1, "dsa")
    method = build(f"methods.{name}", config.methods[name], Method)
    keys = ("inner_steps", "expert_epochs", "max_start_epoch", "lr", "lr_lr", "inner_lr")
    assert tuple(getattr(method, key) for key in keys) == TRAJECTORIES[name, ipc]
    assert (method.pool.count, method.pool.epochs, method.pool.lr, method.pool.batch_size) == (100, 50, 0.01, 256)
    assert (method.pool.sharpness is not None) == (method.ema_decay > 0) == (name == "ftd")
    assert len(method.starts(range(method.pool.epochs + 1))) == method.max_start_epoch
