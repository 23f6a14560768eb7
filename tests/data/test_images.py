from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from teddy.config.errors import UserError
from teddy.data.images import FileImages, ImageSet, TensorImages, subset


@pytest.mark.parametrize("width, height", [(40, 30), (30, 40), (33, 97), (24, 24), (10, 13)])
@pytest.mark.parametrize("resize", [None, 20, 24])
def test_evaluation_geometry_is_torchvisions(tmp_path, write_image, width, height, resize):
    write_image(tmp_path / "a.png", width=width, height=height)
    images = FileImages([tmp_path / "a.png"], torch.tensor([0]), channels=3, size=16, resize=resize)
    expected = v2.Compose([v2.Resize(resize or 16), v2.CenterCrop(16), v2.PILToTensor()])(
        Image.open(tmp_path / "a.png")
    )
    assert torch.equal(images.take([0])[0], expected)


def test_crop_is_torchvisions_on_the_undistorted_image(tmp_path, write_image):
    write_image(tmp_path / "a.png", width=40, height=30)
    images = FileImages([tmp_path / "a.png"], torch.tensor([0]), channels=3, size=16)
    expected = tvf.pil_to_tensor(tvf.resized_crop(Image.open(tmp_path / "a.png"), 3, 5, 20, 31, [16, 16]))
    assert torch.equal(images.crop(images.open(0), 3, 5, 20, 31), expected)


def test_channels_are_converted(tmp_path, write_image):
    grey = write_image(tmp_path / "grey.png", mode="L")
    write_image(tmp_path / "colour.png")
    paths = [tmp_path / "grey.png", tmp_path / "colour.png"]
    as_rgb = FileImages(paths, torch.tensor([0, 1]), channels=3, size=8).take([0])
    assert torch.equal(as_rgb, torch.from_numpy(grey).expand(1, 3, 8, 8))
    as_grey = FileImages(paths, torch.tensor([0, 1]), channels=1, size=8).take([1, 0])
    assert as_grey.shape == (2, 1, 8, 8)
    assert np.array_equal(as_grey[0, 0], np.array(Image.open(paths[1]).convert("L")))


@pytest.mark.parametrize("damage", ["cut short", "text", "gone"])
def test_an_unreadable_image_is_named(tmp_path, write_image, damage):
    path = tmp_path / "a.png"
    write_image(path, width=64, height=64)
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "text":
        path.write_text("no image")
    else:
        path.unlink()
    with pytest.raises(UserError, match=r"a\.png cannot be read"):
        FileImages([path], torch.tensor([0]), channels=3, size=8).take([0])


def announcing(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes whose header announces any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("side", [10_001, 30_000, 2**31 - 1])
def test_an_image_bomb_is_refused_before_memory_is_asked_for(tmp_path, side):
    path = announcing(tmp_path / "a.png", side, side)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.png cannot be read as an image .*pixels") as caught:
        FileImages([path], torch.tensor([0]), channels=3, size=8).take([0])
    assert "\n" not in str(caught.value)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_subset_of_both_kinds(tmp_path, write_image):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        write_image(path, seed=i)
    files = FileImages(paths, torch.tensor([0, 1, 2, 3, 4]), channels=3, size=8)
    memory = TensorImages(files.take(range(5)), files.labels)
    for whole in (files, memory):
        part = subset(whole, [4, 1, 3])
        assert isinstance(part, ImageSet)
        assert part.labels.tolist() == [4, 1, 3]
        assert torch.equal(part.take(np.array([2, 0])), memory.images[[3, 4]])


def test_taking_nothing_gives_an_empty_batch(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    assert FileImages([tmp_path / "a.png"], torch.tensor([0]), channels=3, size=8).take([]).shape == (0, 3, 8, 8)


GREY = np.array([[0, 17], [128, 255]], dtype=np.uint8)
COLOUR = np.random.default_rng(0).integers(0, 256, (2, 2, 3), dtype=np.uint8)
OPAQUE = np.dstack([COLOUR, np.full((2, 2), 255, np.uint8)])


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("16 bits.png", Image.fromarray(GREY.astype(np.uint16) * 257), GREY),  # 65535 is white
        ("16 bits.tif", Image.fromarray(GREY.astype(np.uint16) * 257), GREY),
        ("1 bit.png", Image.fromarray(GREY > 127), np.where(GREY > 127, 255, 0)),
        ("grey with alpha.png", Image.fromarray(np.dstack([GREY, GREY])), GREY),
        ("alpha.png", Image.fromarray(OPAQUE), COLOUR),
        ("palette.png", Image.fromarray(COLOUR).quantize(4, dither=Image.Dither.NONE), COLOUR),
        ("palette with alpha.png", Image.fromarray(COLOUR).quantize(4, dither=Image.Dither.NONE), COLOUR),
        ("ink.tif", Image.fromarray(255 - np.dstack([COLOUR, np.full((2, 2), 255, np.uint8)])), COLOUR),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("error")
def test_images_of_every_mode_are_shown_as_they_are(tmp_path, name, image, expected):
    if name == "ink.tif":
        image = Image.frombytes("CMYK", (2, 2), image.tobytes())
    image.save(
        tmp_path / name, **({"transparency": bytes([9, 99, 199, 255])} if name.startswith("palette with") else {})
    )
    shown = FileImages([tmp_path / name], torch.tensor([0]), channels=3, size=2).take([0])[0].permute(1, 2, 0)
    assert np.array_equal(shown, expected if expected.ndim == 3 else np.dstack([expected] * 3))


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.new("RGB", (2, 2), (shade, 0, 0)) for shade in (40, 200)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert FileImages([tmp_path / "a.png"], torch.tensor([0]), channels=3, size=2).take([0])[
        0, 0
    ].unique().tolist() == [40]


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), (40, 50, 60)).save(tmp_path / "a.png")
    images = FileImages([tmp_path / "a.png"], torch.tensor([0]), channels=3, size=4)
    assert [channel.unique().tolist() for channel in images.take([0])[0]] == [[40], [50], [60]]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_range_are_refused(tmp_path, kind):
    Image.fromarray(GREY.astype(kind)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif cannot be read .*numbers without a known range.*convert it to 8 bits"):
        FileImages([tmp_path / "a.tif"], torch.tensor([0]), channels=1, size=2).take([0])
