"""Sets of a made-up dataset, with labels of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from teddy.artifacts.store import ArtifactStore
from teddy.data.distilled import export_images
from teddy.data.spec import DatasetSpec
from teddy.data.tiles import decode_tiles
from teddy.labels.compression import AllLogits
from teddy.labels.ensemble import PoolLabeller
from teddy.labels.store import write_stored_labels
from teddy.labels.views import ViewMaker, ViewRecipe
from teddy.models.networks import build_network
from teddy.pool.members import Member
from teddy.runtime.resume import save_tensors
from teddy.sets.description import DatasetFacts, Description, LabelFacts, MethodFacts, TeacherFacts
from teddy.sets.folder import SetFolder, write_set
from teddy.synthesis.stage import ImageFolderArtifact

VIEW = ViewRecipe(min_scale=0.2)
RESULTS = [
    {"protocol": "dm", "labels": "hard", "student": "convnet3", "top1": [50.0, 52.0], "baseline": [40.0, 41.0]},
    {"protocol": "paper", "labels": "stored", "student": "convnet3", "top1": [33.0], "baseline": []},
]


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., SetFolder]:
    """Write a set of four classes and three images of each: 16 pixels, in colour unless ``channels=1``."""

    def make(
        kind: str = "online", name: str = "cifar10", classes: int = 4, channels: int = 3, tiles: int = 1, **facts: Any
    ) -> SetFolder:
        ids = [f"{index:04d}_c" for index in range(classes)]
        normal = (0.4,) * channels, (0.3,) * channels
        spec = DatasetSpec(name, classes, channels, 16, *normal, tuple(f"class {one}" for one in ids), tuple(ids))
        pixels = torch.randint(0, 256, (3 * classes, channels, 16, 16), generator=torch.Generator().manual_seed(0))
        labels = torch.arange(classes).repeat_interleave(3)

        def build(folder: Path) -> dict[str, Any]:
            images = pixels.to(torch.uint8)
            export_images(folder / "images", images, labels, spec)
            if tiles > 1:
                decoded = decode_tiles(images, tiles)
                export_images(folder / "decoded_images", decoded, labels.repeat_interleave(tiles**2), spec)
            return {"tiles": tiles}

        content = {"name": name, "classes": classes, "channels": channels, "tiles": tiles}
        artifact = ImageFolderArtifact(ArtifactStore(tmp_path / "store").produce("images", content, build), spec)
        networks = [build_network("convnet2_w4", classes, channels, 16, seed=seed).eval() for seed in (1, 2)]
        teachers, named = [], []
        for seed, network in enumerate(networks):
            named.append(TeacherFacts("convnet2_w4", seed + 1, 50.0, f"teachers/{seed:02d}.safetensors"))
            save_tensors(tmp_path / f"{seed}.safetensors", network.state_dict())
            teachers.append(Member("convnet2_w4", tmp_path / f"{seed}.safetensors", seed + 1, "", 50.0))
        stored, carried = None, kind in ("online", "fixed")
        if kind == "stored":
            (tmp_path / "labels").mkdir()
            views = ViewMaker(artifact.images.images, spec, VIEW, 7)
            write_stored_labels(tmp_path / "labels", views, PoolLabeller(networks), 5, AllLogits(classes), 4)
            stored = tmp_path / "labels" / "labels.safetensors"
        about = DatasetFacts(name, tuple(ids), spec.class_names, channels, 16, *normal)  # type: ignore[arg-type]
        recipe = LabelFacts(kind, 4.0, VIEW, 7, epochs=5 if stored else None, teachers=named if carried else [])  # type: ignore[arg-type]
        method = MethodFacts("mine", "Mine", "Me, 2026")
        description = Description(
            "four-3", method, about, 3, recipe, tiles=tiles, results=RESULTS, command="python -m teddy", **facts
        )
        return write_set(tmp_path / "set", description, artifact, teachers if carried else (), stored)

    return make


@pytest.fixture
def logits() -> Callable[[SetFolder, torch.Tensor], torch.Tensor]:
    """What the teachers of a set say to normalised images, with networks that are built and loaded here."""

    def answer(opened: SetFolder, images: torch.Tensor) -> torch.Tensor:
        from safetensors.torch import load_file

        spec, each = opened.spec, []
        for file in sorted((opened.path / "teachers").glob("*.safetensors")):
            network = build_network("convnet2_w4", spec.num_classes, spec.channels, spec.size)
            network.load_state_dict(load_file(file))
            each.append(network.eval()(images).detach())
        return sum(each) / len(each)

    return answer
