"""Names of networks without torch, against torchvision's own register."""

from __future__ import annotations

import pytest
from torchvision import models

from teddy.config.errors import BadInput
from teddy.models import names
from teddy.models.names import RESNETS, check_network, torchvision_names
from teddy.models.resnet import LAYOUT


@pytest.fixture
def sources(monkeypatch):
    """Puts a text in the place of torchvision's files."""
    return lambda text: monkeypatch.setattr(names, "_sources", lambda: text)


def test_the_source_files_name_what_torchvision_registers() -> None:
    assert torchvision_names() == models.list_models(module=models)
    for name in models.list_models(module=models):
        check_network(name)


def test_networks_of_other_tasks_are_no_classifiers() -> None:
    others = set(models.list_models()) - set(models.list_models(module=models))
    assert others
    for name in others:
        with pytest.raises(BadInput, match="there is no network"):
            check_network(name)


def test_our_resnets_are_those_that_can_be_built() -> None:
    assert tuple(LAYOUT) == RESNETS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@register_model()\ndef alexnet():\n\n@new_way\ndef vgg11():\n",
    ],
    ids=["no files", "another decorator"],
)
def test_a_name_that_the_files_do_not_tell_is_looked_up_in_torchvision(sources, text) -> None:
    sources(text)
    check_network("vgg11")
    with pytest.raises(BadInput, match=r"no network 'vgg12'"):
        check_network("vgg12")


def test_ways_to_register(sources) -> None:
    sources(
        "@register_model()\n@legacy(\n    weights=None,\n)\ndef a_1(\n    x):\n    pass\n\n"
        "def helper():\n    pass\n\n"
        '@register_model(name="b")\ndef c():\n'
        "@register_model('d')\ndef e():\n"
    )
    assert torchvision_names() == ["a_1", "b", "d"]
