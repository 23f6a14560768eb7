"""Every method, and every stage, on a GPU; skipped where there is none."""

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

NETWORK = "network=convnet2_w8_in"
EXPERTS = (f"pool.{NETWORK}", "pool.count=1", "pool.epochs=2", "expert_epochs=1", "max_start_epoch=2", "inner_steps=3")
OWN = {
    "classwise": ("augmentations=2",),
    "classwise_tiles": ("augmentations=2",),
    "dm": (NETWORK, "real_images=16"),
    "dc": (NETWORK, "real_images=16"),
    "dsa": (NETWORK, "real_images=16"),
    "idm": (NETWORK, "real_images=16", "every=2", "train_steps=2"),
    "bptt": (NETWORK, "inner_steps=3", "batch_syn=null"),
    "mtt": EXPERTS,
    "ftd": EXPERTS,
    "tesla": EXPERTS,
    "teddy": (),
    "sre2l": (),
    "balanced": ("balanced=20", "compile=false"),
}
CORESETS = ("herding", "kcentre", "kmeans", "el2n", "cad_prune", "rded", "mosaic", "random")
GPU = ("trainer=gpu", "trainer.workers=0")
SAME_BITS = ("trainer=deterministic", "trainer.accelerator=gpu", "trainer.workers=0")


def words(method):
    """The settings of a short run of a method that optimises images."""
    return [f"methods.{method}.{word}" for word in ("iterations=4", *OWN[method])]


@pytest.mark.parametrize("labels", ["hard", "stored"])
def test_every_stage_of_every_method(workspace, labels):
    methods = [*OWN, *CORESETS]
    done = workspace.run(
        f"method=[{','.join(methods)}]",
        f"labels={labels}",
        "methods.cad_prune.window=2",
        "methods.cad_prune.last=1",
        "synthesis.probe_every=2",
        "synthesis.compile=true",
        *(word for method in OWN for word in words(method)),
        *GPU,
    )
    assert [row["method"] for row in done.rows] == methods
    assert " on cuda (" in done.out


@pytest.mark.parametrize("method", list(OWN))
def test_a_deterministic_run_gives_the_same_bits_twice(workspace, tmp_path, method):
    images = []
    for name in ("one", "two"):
        settings = ("stages=[pool,synthesis]", f"method=[{method}]", f"store={tmp_path / name}", *words(method))
        workspace.run(*settings, *SAME_BITS)
        files = (tmp_path / name).glob("images/*/images/*/*.png")
        images.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert len(images[0]) >= 10, "one of each class at least"
    assert images[0] == images[1]
