"""Stored labels: the file holds the teachers' logits, and a killed run resumes to the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from teddy.config.errors import UserError
from teddy.data.spec import DatasetSpec
from teddy.labels.compression import AllLogits, Compression, TopK
from teddy.labels.store import write_stored_labels
from teddy.labels.views import ViewMaker, ViewRecipe

SPEC = DatasetSpec("toy", 4, 3, 8, (0.5,) * 3, (0.25,) * 3, ("a", "b", "c", "d"), ("0", "1", "2", "3"))
IMAGES = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(3 * 64, 4, generator=torch.Generator().manual_seed(1))


def views() -> ViewMaker:
    return ViewMaker(IMAGES, SPEC, ViewRecipe(), 0)


def label(images: torch.Tensor) -> torch.Tensor:
    # Summed row by row, so that the batch size cannot change the rounding.
    return torch.stack([(image.flatten()[:, None] * WEIGHTS).sum(0) for image in images])


Labeller = Callable[[torch.Tensor], torch.Tensor]


class Killed(Exception):
    """Stands for a signal in the middle of an epoch."""


def killed_after(calls: int) -> Labeller:
    left = [calls]

    def labeller(images: torch.Tensor) -> torch.Tensor:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return label(images)

    return labeller


PART = TopK(4, 2, 20.0)
BOTH = pytest.mark.parametrize("compression", [AllLogits(4), PART], ids=["all", "part"])


def write(
    folder: Path, labeller: Labeller = label, batch_size: int = 4, compression: Compression = PART, **more: Any
) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return write_stored_labels(folder, views(), labeller, 3, compression, batch_size, **more)


def test_the_file_holds_the_teachers_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = write(tmp_path, compression=AllLogits(4))
    stored = np.load(tmp_path / "logits.npy", allow_pickle=False)
    assert stored.dtype == np.float16
    assert stored.shape == (3, 10, 4)
    for epoch in range(3):
        expected = label(views()(epoch, torch.arange(10)).images).half()
        assert torch.equal(torch.from_numpy(stored[epoch]), expected)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "labels: 0/30 views (0 %)"
    assert shown[-1].startswith("labels: 30/30 views (100 %), done")
    assert facts["epochs"] == 3
    assert facts["megabytes"] == pytest.approx((tmp_path / "logits.npy").stat().st_size / 1e6, abs=1e-3)


def test_a_part_of_the_logits_is_an_entry_for_each_view(tmp_path: Path) -> None:
    facts = write(tmp_path)
    stored = np.load(tmp_path / "logits.npy", allow_pickle=False)
    assert stored.shape == (3, 10)
    for epoch in range(3):
        expected = label(views()(epoch, torch.arange(10)).images)
        top = expected.topk(2)
        assert torch.equal(torch.from_numpy(stored[epoch]["logits"]), top.values.half())
        assert stored[epoch]["classes"].tolist() == top.indices.tolist()
    assert facts["megabytes"] == pytest.approx((tmp_path / "logits.npy").stat().st_size / 1e6, abs=1e-3)
    assert (tmp_path / "logits.npy").stat().st_size % 64 == 3 * 10 * (2 * 2 + 2 * 1 + 2) % 64  # headers are whole lines


@BOTH
def test_a_plain_save_has_the_same_bytes(tmp_path: Path, compression: Compression) -> None:
    write(tmp_path, compression=compression)
    np.save(tmp_path / "plain.npy", np.load(tmp_path / "logits.npy"))
    assert (tmp_path / "plain.npy").read_bytes() == (tmp_path / "logits.npy").read_bytes()


@BOTH
@pytest.mark.parametrize("calls", range(9))
def test_a_killed_run_resumes_to_the_same_bytes(
    tmp_path: Path, calls: int, compression: Compression, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "whole", compression=compression)
    with pytest.raises(Killed):
        write(tmp_path / "cut", killed_after(calls), compression=compression)
    if calls % 3 == 1:  # a kill may also leave a half-written row behind
        with (tmp_path / "cut" / "logits.npy").open("ab") as stream:
            stream.write(b"\x01" * 7)
    capsys.readouterr()
    write(tmp_path / "cut", compression=compression)
    assert capsys.readouterr().err.startswith(f"labels: {10 * (calls // 3)}/30 views")
    for name in ("logits.npy", "progress.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("harm", ["flipped", "swapped", "no json", "no number"])
def test_what_a_killed_run_left_is_not_believed(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "whole")
    with pytest.raises(Killed):
        write(tmp_path / "cut", killed_after(7))
    logits, noted = tmp_path / "cut" / "logits.npy", tmp_path / "cut" / "progress.json"
    if harm == "flipped":
        content = bytearray(logits.read_bytes())
        content[-100] ^= 1  # in the second epoch
        logits.write_bytes(content)
    elif harm == "swapped":  # for those of other teachers
        write(tmp_path / "other", lambda images: -label(images))
        logits.write_bytes((tmp_path / "other" / "logits.npy").read_bytes())
    else:
        noted.write_text({"no json": '{"epo', "no number": '{"epochs_done": "two"}'}[harm])
    write(tmp_path / "cut")
    for name in ("logits.npy", "progress.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert caplog.messages == [f"{logits} is not what progress.json says; its labels are computed again."]


def test_a_finished_file_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path)
    before = (tmp_path / "logits.npy").read_bytes()
    write(tmp_path, killed_after(0))
    assert (tmp_path / "logits.npy").read_bytes() == before


@BOTH
def test_a_file_shorter_than_noted_is_not_filled_with_zeros(tmp_path: Path, compression: Compression) -> None:
    write(tmp_path, compression=compression)
    whole = (tmp_path / "logits.npy").read_bytes()
    (tmp_path / "logits.npy").write_bytes(whole[:-100])
    write(tmp_path, compression=compression)
    assert (tmp_path / "logits.npy").read_bytes() == whole


@BOTH
def test_the_batch_size_does_not_matter(tmp_path: Path, compression: Compression) -> None:
    write(tmp_path / "a", batch_size=4, compression=compression)
    write(tmp_path / "b", batch_size=10, compression=compression)
    assert (tmp_path / "a" / "logits.npy").read_bytes() == (tmp_path / "b" / "logits.npy").read_bytes()


def one_is_lost(images: torch.Tensor) -> torch.Tensor:
    values = label(images)
    values[0, values[0].argmin()] = -math.inf  # not one of the largest
    return values


@BOTH
def test_diverged_teachers_are_refused(tmp_path: Path, compression: Compression) -> None:
    for labeller in (lambda images: label(images) / 0, lambda images: label(images) * 1e6, one_is_lost):
        with pytest.raises(UserError, match="not finite"):
            write(tmp_path, labeller, compression=compression)
