"""Stored labels: the file holds the teachers' logits, and a killed run resumes to the same bytes."""

from __future__ import annotations

import json
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from teddy.config.errors import UserError
from teddy.data.spec import DatasetSpec
from teddy.labels.compression import AllLogits, Compression, TopK
from teddy.labels.store import StoredLabels, write_stored_labels
from teddy.labels.views import ViewMaker, ViewRecipe

SPEC = DatasetSpec("toy", 4, 3, 8, (0.5,) * 3, (0.25,) * 3, ("a", "b", "c", "d"), ("0", "1", "2", "3"))
IMAGES = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(3 * 64, 4, generator=torch.Generator().manual_seed(1))


def views() -> ViewMaker:
    return ViewMaker(IMAGES, SPEC, ViewRecipe(), 0)


def label(images: torch.Tensor) -> torch.Tensor:
    # Summed row by row, so that the batch size cannot change the rounding.
    return torch.stack([(image.flatten()[:, None] * WEIGHTS).sum(0) for image in images])


LABELS = "labels.safetensors"
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
    stored = load_file(tmp_path / LABELS)["logits"]
    assert (stored.dtype, stored.shape) == (torch.float16, (3, 10, 4))
    for epoch in range(3):
        expected = label(views()(epoch, torch.arange(10)).images).half()
        assert torch.equal(stored[epoch], expected)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "labels: 0/30 views (0 %)"
    assert shown[-1].startswith("labels: 30/30 views (100 %), done")
    assert facts["epochs"] == 3
    assert facts["megabytes"] == pytest.approx((tmp_path / LABELS).stat().st_size / 1e6, abs=1e-3)


def test_a_part_of_the_logits_is_one_tensor_for_each_of_its_numbers(tmp_path: Path) -> None:
    facts = write(tmp_path)
    stored = load_file(tmp_path / LABELS)
    shapes = {name: (one.dtype, tuple(one.shape)) for name, one in stored.items()}
    assert shapes == {
        "logits": (torch.float16, (3, 10, 2)),
        "classes": (torch.uint8, (3, 10, 2)),
        "rest": (torch.float16, (3, 10)),
    }
    for epoch in range(3):
        expected = label(views()(epoch, torch.arange(10)).images)
        top = expected.topk(2)
        assert torch.equal(stored["logits"][epoch], top.values.half())
        assert stored["classes"][epoch].tolist() == top.indices.tolist()
        others = expected.double().scatter(1, top.indices, -math.inf)
        rest = 20 * ((others / 20).exp().sum(1) / 2).log()
        torch.testing.assert_close(stored["rest"][epoch].double(), rest, rtol=2**-10, atol=1e-4)
    assert facts["megabytes"] == pytest.approx((tmp_path / LABELS).stat().st_size / 1e6, abs=1e-3)


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a file of safetensors, by the words of its specification."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.mark.parametrize("compression", [AllLogits(4), PART, TopK(300, 1, 4.0), TopK(65537, 1, 4.0)])
def test_the_library_of_the_format_lays_the_file_out_alike(tmp_path: Path, compression: Compression) -> None:
    def labeller(images: torch.Tensor) -> torch.Tensor:
        return torch.cat([label(images), torch.zeros(len(images), compression.num_classes - 4)], 1)

    write(tmp_path, labeller, compression=compression)
    save_file(load_file(tmp_path / LABELS), tmp_path / "plain.safetensors")
    (mine, data), (plain, expected) = (parts(tmp_path / name) for name in (LABELS, "plain.safetensors"))
    assert list(mine.items()) == list(plain.items())
    assert data == expected


@BOTH
@pytest.mark.parametrize("calls", range(9))
def test_a_killed_run_resumes_to_the_same_bytes(
    tmp_path: Path, calls: int, compression: Compression, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "whole", compression=compression)
    with pytest.raises(Killed):
        write(tmp_path / "cut", killed_after(calls), compression=compression)
    if calls % 3 == 1:  # a kill may also leave a part of the next epoch behind
        with (tmp_path / "cut" / LABELS).open("r+b") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            stream.seek(8 + length + calls // 3 * 10 * compression.parts["logits"].itemsize)
            stream.write(b"\x01" * 7)
    capsys.readouterr()
    write(tmp_path / "cut", compression=compression)
    assert capsys.readouterr().err.startswith(f"labels: {10 * (calls // 3)}/30 views")
    for name in (LABELS, "progress.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("harm", ["flipped", "swapped", "no json", "no number"])
def test_what_a_killed_run_left_is_not_believed(tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "whole")
    with pytest.raises(Killed):
        write(tmp_path / "cut", killed_after(7))
    logits, noted = tmp_path / "cut" / LABELS, tmp_path / "cut" / "progress.json"
    if harm == "flipped":
        content = bytearray(logits.read_bytes())
        content[-35] ^= 1  # in the classes of the second epoch, since each has 20 bytes of them and they come last
        logits.write_bytes(content)
    elif harm == "swapped":  # for those of other teachers
        write(tmp_path / "other", lambda images: -label(images))
        logits.write_bytes((tmp_path / "other" / LABELS).read_bytes())
    else:
        noted.write_text({"no json": '{"epo', "no number": '{"epochs_done": "two"}'}[harm])
    write(tmp_path / "cut")
    for name in (LABELS, "progress.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert caplog.messages == [f"{logits} is not what progress.json says; its labels are computed again."]


def test_a_finished_file_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path)
    before = (tmp_path / LABELS).read_bytes()
    write(tmp_path, killed_after(0))
    assert (tmp_path / LABELS).read_bytes() == before


@BOTH
def test_a_file_shorter_than_noted_is_not_filled_with_zeros(tmp_path: Path, compression: Compression) -> None:
    write(tmp_path, compression=compression)
    whole = (tmp_path / LABELS).read_bytes()
    (tmp_path / LABELS).write_bytes(whole[:-100])
    write(tmp_path, compression=compression)
    assert (tmp_path / LABELS).read_bytes() == whole


@BOTH
def test_the_batch_size_does_not_matter(tmp_path: Path, compression: Compression) -> None:
    write(tmp_path / "a", batch_size=4, compression=compression)
    write(tmp_path / "b", batch_size=10, compression=compression)
    assert (tmp_path / "a" / LABELS).read_bytes() == (tmp_path / "b" / LABELS).read_bytes()


def one_is_lost(images: torch.Tensor) -> torch.Tensor:
    values = label(images)
    values[0, values[0].argmin()] = -math.inf  # not one of the largest
    return values


@BOTH
def test_diverged_teachers_are_refused(tmp_path: Path, compression: Compression) -> None:
    for labeller in (lambda images: label(images) / 0, lambda images: label(images) * 1e6, one_is_lost):
        with pytest.raises(UserError, match="not finite"):
            write(tmp_path, labeller, compression=compression)


def announce(**tensors: Any) -> bytes:
    """A file of safetensors that announces these tensors, and holds nothing."""
    text = json.dumps(
        {name: dict(zip(("dtype", "shape", "data_offsets"), one, strict=True)) for name, one in tensors.items()}
    )
    return struct.pack("<Q", len(text)) + text.encode()


HOSTILE = {
    "nothing": b"",
    "a pickle": pickle.dumps({"logits": [1.0] * 100}),
    "a header without an end": struct.pack("<Q", 2**62) + b"{}",
    "more than there is": announce(logits=("F16", [3, 10, 4], [0, 240])),
    "more than any memory": announce(logits=("F16", [3, 10, 2**60], [0, 60 * 2**60])),
    "an overlap": announce(logits=("F16", [0, 10, 4], [0, 0]), rest=("F16", [0], [0, 2])) + bytes(2),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_announces_anything_else_is_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / LABELS).write_bytes(HOSTILE[case])
    with pytest.raises(UserError, match="does not hold this set's labels"):
        StoredLabels(tmp_path / LABELS, (3, 10), AllLogits(4), 20.0)


@BOTH
def test_labels_in_another_shape_or_cut_short_are_refused(tmp_path: Path, compression: Compression) -> None:
    write(tmp_path, compression=compression)
    StoredLabels(tmp_path / LABELS, (3, 10), compression, 20.0)
    for shape, form in (((3, 9), compression), ((2, 10), compression), ((3, 10), TopK(300, 2, 20.0))):
        with pytest.raises(UserError, match="does not hold this set's labels"):
            StoredLabels(tmp_path / LABELS, shape, form, 20.0)
    (tmp_path / LABELS).write_bytes((tmp_path / LABELS).read_bytes()[:-1])
    with pytest.raises(UserError, match="does not hold this set's labels"):
        StoredLabels(tmp_path / LABELS, (3, 10), compression, 20.0)
