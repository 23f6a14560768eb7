"""The paper's two large datasets in miniature: made-up files in the official layout, all classes, every stage."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from torchvision.datasets import ImageFolder

ONE_OF_EACH = (
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.threads=1",
    "trainer.workers=2",
    "logger=csv",
    "pool.first=1",
    "pool.last=1",
    "pool.training.epochs=1",
    "pool.training.warmup_epochs=0",
    "synthesis.ipc=1",
    "synthesis.iterations=1",
    "synthesis.teachers_per_block=1",
    "evaluation.epochs=1",
    "evaluation.seeds=1",
)
"""Every number that makes the experiments long, at its least."""


def write_jpeg(path: Path, number: int, width: int, height: int) -> None:
    """A picture of coarse noise, another one for each number, every hundredth in shades of grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    mode = "L" if number % 100 == 7 else "RGB"
    Image.fromarray(pixels).resize((width, height)).convert(mode).save(path, quality=85)


@pytest.fixture
def imagenet(tmp_path):
    """train/<wnid>/*.JPEG and val/<wnid>/*.JPEG: 1,000 classes with two and one pictures of many sizes."""
    root = tmp_path / "imagenet"
    for label in range(1000):
        wnid = f"n{1440000 + 7 * label:08d}"
        for index in range(2):
            width, height = 40 + label % 9, 30 + label % 31
            write_jpeg(root / "train" / wnid / f"{wnid}_{index}.JPEG", 3 * label + index, width, height)
        write_jpeg(root / "val" / wnid / f"ILSVRC2012_val_{label:08d}.JPEG", 3 * label + 2, 50, 37)
    return root


@pytest.fixture
def tiny_imagenet(tmp_path):
    """The tree of tiny-imagenet-200.zip: 200 classes with three and one pictures of 64 x 64 pixels."""
    root = tmp_path / "tiny-imagenet-200"
    wnids = [f"n{1443537 + 11 * label:08d}" for label in range(200)]
    for label, wnid in enumerate(wnids):
        for index in range(3):
            write_jpeg(root / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", 4 * label + index, 64, 64)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
        write_jpeg(root / "val" / "images" / f"val_{label}.JPEG", 4 * label + 3, 64, 64)
        write_jpeg(root / "test" / "images" / f"test_{label}.JPEG", label, 64, 64)
    lines = [f"val_{label}.JPEG\t{wnid}\t0\t32\t44\t62\n" for label, wnid in enumerate(wnids)]
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    (root / "wnids.txt").write_text("\n".join(reversed(wnids)) + "\n")
    (root / "words.txt").write_text("".join(f"{wnid}\tthing {label}, matter\n" for label, wnid in enumerate(wnids)))
    return root


def check(workspace, done, train: Path, size: int, methods: tuple[str, ...] = ("teddy", "random")) -> None:
    """A whole run: its results log, its pictures, and images that another tool reads as the right classes."""
    classes = sorted(path.name for path in train.iterdir())
    assert tuple(row["method"] for row in done.rows) == methods
    for row in done.rows:
        folder = ImageFolder(str(workspace.store / "images" / row["fingerprints"]["images"] / "images"))
        assert folder.classes == classes
        assert [label for _, label in folder.samples] == list(range(len(classes)))
        assert folder[len(classes) - 1][0].size == (size, size)
    names = {path.name for path in (done.folder / "figures").iterdir()}
    assert {*(f"images_{method}.png" for method in methods)} | {"terms_teddy.png"} <= names
    assert (done.folder / "index.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_imagenet_to_one_image_per_class(imagenet, workspace):
    network = ("model.name=convnet6_w4",)
    done = workspace.run(
        "+experiment=imagenet_ipc10_prior", f"dataset.root={imagenet}", *network, *ONE_OF_EACH, base=()
    )
    check(workspace, done, imagenet / "train", 224)
    config = yaml.safe_load((done.folder / "config.yaml").read_text())
    assert (config["synthesis"]["lr"], config["synthesis"]["bn_weight"]) == (0.25, 0.01), "the experiment's own"
    assert "synthesis: 10/10 steps" in done.err, "ten blocks of a hundred classes"
    # The same files again: listed, not decoded, and nothing is computed.
    before = workspace.manifests()
    workspace.run("+experiment=imagenet_ipc10_prior", f"dataset.root={imagenet}", *network, *ONE_OF_EACH, base=())
    assert workspace.manifests() == before


def test_tiny_imagenet_to_one_image_per_class(tiny_imagenet, workspace):
    network = ("model.name=convnet4_w8",)
    words = ("+experiment=tiny_imagenet_ipc50_prior", f"dataset.root={tiny_imagenet}", *network, *ONE_OF_EACH)
    done = workspace.run(*words, base=())
    check(workspace, done, tiny_imagenet / "train", 64)
    assert "synthesis: 2/2 steps" in done.err, "two blocks of a hundred classes"

    # The rows beside it in Table 1 come from the same training run.
    own = {
        "post": ("pool.size=2", "pool.strategy.recalibrate=64"),
        "sre2l": ("methods.sre2l.iterations=1",),
        "random": (),
    }
    for kind, more in own.items():
        words = (f"+experiment=tiny_imagenet_ipc50_{kind}", f"dataset.root={tiny_imagenet}", *network, *ONE_OF_EACH)
        done = workspace.run(*words, *more, "stages=[pool,synthesis,labels,evaluation]", base=())
        first = {"post": "teddy"}.get(kind, kind)
        assert [row["method"] for row in done.rows] == ([first] if kind == "random" else [first, "random"])
    assert workspace.kinds()["trajectory"] == 1
    assert workspace.kinds()["pruned"] == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_imagenet_with_the_papers_network(imagenet, workspace):
    """ResNet-18 at 224 pixels, as the experiment has it; a batch of 1,024 would need more memory than most machines have."""
    words = ("method=teddy", "evaluation.batch_size=50", *ONE_OF_EACH)
    done = workspace.run("+experiment=imagenet_ipc10_prior", f"dataset.root={imagenet}", *words, base=())
    check(workspace, done, imagenet / "train", 224, methods=("teddy",))
    assert {row["student"] for row in done.rows} == {"resnet18"}
