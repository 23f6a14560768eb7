"""Every file in ``conf/`` composes, passes the checks and names things that exist; the paper's numbers are in it."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import yaml

from teddy.assembly import protocol_list
from teddy.config.checks import protocols
from teddy.config.command import check_command, read_command
from teddy.config.epochs import member_epochs, saved_epochs
from teddy.config.paths import config_dir
from teddy.config.schema import GROUPS, STAGES, TeddyConfig, register_schemas
from teddy.models.names import check_network

register_schemas()

CONF = config_dir()


def names(folder: str) -> list[str]:
    """Every option in a folder of ``conf/``; a leading underscore marks what only other files use."""
    files = sorted((CONF / folder).rglob("*.yaml"))
    return [str(path.relative_to(CONF / folder).with_suffix("")) for path in files if path.name[0] != "_"]


def jobs(*words: str) -> list[TeddyConfig]:
    return check_command(read_command(list(words))[0])


def composed(*words: str) -> TeddyConfig:
    (config,) = jobs(*words)
    return config


def nodes_with_target(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for child in node.values():
            yield from nodes_with_target(child)
    elif isinstance(node, list):
        for child in node:
            yield from nodes_with_target(child)


def assert_names_exist(config: TeddyConfig) -> None:
    for network in (config.model.name, *config.evaluation.students):
        check_network(network)
    targets = list(nodes_with_target(asdict(config)))
    assert len(targets) >= 2  # the data and the pool
    for node in targets:
        module, _, name = node["_target_"].rpartition(".")
        arguments = {key: value for key, value in node.items() if key != "_target_"}
        inspect.signature(getattr(importlib.import_module(module), name)).bind(**arguments)


# What an option needs beside it.
TOGETHER = {"pool=converged": ["synthesis.teachers_per_block=1"]}
OPTIONS = [(group, name) for group in GROUPS for name in names(group)]


def test_every_folder_is_a_group_with_a_schema():
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {
        *GROUPS,
        "experiment",
        "sweep",
        "launch",
        "hydra",
    }


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=[f"{group}={name}" for group, name in OPTIONS])
def test_every_option_of_a_group_works_alone(group, name):
    word = f"{group}=[{name}]" if group == "baseline" else f"{group}={name}"
    assert_names_exist(composed(word, *TOGETHER.get(word, [])))


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_is_whole(name):
    config = composed(f"+experiment={name}")
    assert config.name == name
    assert_names_exist(config)
    assert "random" in {config.method, *config.baselines}, "a number without its baseline is not a result"
    assert "report" in config.stages
    for key in config.paper:  # a row of the results, of this method or of one that may stand beside it
        method, student, protocol, ipc = key.split("/")
        assert method in ("teddy", "sre2l", "random")
        assert student in ("resnet18", "resnet18_cifar", *config.evaluation.students)
        assert protocol in protocols(config)
        assert ipc in ("ipc1", "ipc5", "ipc10", "ipc50", "ipc100")


@pytest.mark.parametrize("name", names("sweep"))
def test_every_sweep_makes_several_good_jobs_of_an_experiment(name):
    configs = jobs("+experiment=mini", f"+sweep={name}")
    assert len(configs) > 1
    different = [asdict(config) for config in configs]
    assert all(one != other for i, one in enumerate(different) for other in different[:i])
    for config in configs:
        assert_names_exist(config)


@pytest.mark.parametrize("name", [name for name in names("experiment") if re.search("post|sre2l", name) is None])
def test_a_post_pool_is_one_word_away_from_a_prior_pool(name):
    config = composed(f"+experiment={name}", "pool=post")
    assert (config.pool.label, config.pool.base, config.pool.size) == ("post", "trained", 10)
    assert config.pool.training == composed(f"+experiment={name}").pool.training


@pytest.mark.parametrize("name", names("launch"))
def test_every_launcher_takes_the_jobs_of_a_sweep(name):
    assert len(jobs("+experiment=mini", "+sweep=ipc", f"+launch={name}")) == 3


def test_every_file_says_what_it_is_for():
    silent = [str(path) for path in CONF.rglob("*.yaml") if "hydra" not in path.parts and "#" not in path.read_text()]
    assert not silent


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
    pool, training = config.pool, asdict(config.pool.training)

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
        f"{method}/{config.model.name}/{protocol_name}/ipc{ipc}": values
        for method, column in (("teddy", kind), ("sre2l", "sre2l"), ("random", "random"))
        for ipc, values in TABLE_1[data, column].items()
    }


@pytest.mark.parametrize("kind", TABLE_2)
def test_table_2(kind):
    config = composed(f"+experiment=imagenet_ipc10_{kind}_cross_arch")
    assert config.evaluation.students == list(TABLE_2[kind])
    method = "sre2l" if kind == "sre2l" else "teddy"
    printed = {f"{method}/{student}/paper/ipc10": values for student, values in TABLE_2[kind].items()}
    assert printed.items() <= config.paper.items()
    # The very images of Table 1: nothing that they depend on differs.
    table_1 = composed(f"+experiment=imagenet_ipc10_{kind}")
    assert (config.pool, config.synthesis, config.labels) == (table_1.pool, table_1.synthesis, table_1.labels)


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
        assert config.paper[f"sre2l/resnet50/paper/ipc{ipc}"] == [sre2l]
        assert config.paper.get(f"teddy/resnet50/paper/ipc{ipc}") == (teddy and [teddy])


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


# ``python -m teddy …`` or ``teddy …`` as people write it: after a prompt, an environment variable, a folder of programs.
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*python3? -m teddy|\S*\bteddy)(?=\s|$)(.*)$")


def commands(text: str) -> list[str]:
    """The words after ``teddy`` in every fenced block of a Markdown text."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [match[1].strip() for line in lines if (match := COMMAND.match(line.strip()))]


def test_commands_are_found_in_fenced_blocks_only():
    text = "python -m teddy outside\n```\n$ python -m teddy a=1\nteddy b=1 \\\n  c=2 # why\npip install teddy\n```\n"
    assert commands(text) == ["a=1", "b=1    c=2 # why"]


def test_the_commands_of_the_readme_work(repo_root):
    text = (repo_root / "README.md").read_text()
    found = commands(text)
    assert found or len(text.splitlines()) <= 40, "README.md shows no command 'python -m teddy …' in a ``` block"
    for words in found:
        jobs(*shlex.split(words, comments=True))


def test_the_examples_of_the_help_work():
    footer = yaml.safe_load((CONF / "hydra" / "help" / "teddy.yaml").read_text())["footer"]
    lines = [COMMAND.match(re.split(r"\s{3,}", line)[0]) for line in footer.splitlines() if line.strip()]
    assert lines
    assert all(lines)
    for line in lines:
        jobs(*shlex.split(line[1]))


def test_the_stages_run_in_their_order_by_default():
    assert composed().stages == list(STAGES) == ["pool", "synthesis", "labels", "evaluation", "report"]
