"""Tiles against a loop over them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from teddy.config.errors import UserError
from teddy.data.tiles import decode_tiles, encode_tiles, enlarge_tiles


def pixels(count: int, channels: int, size: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=draws)


@pytest.mark.parametrize(("tiles", "channels", "size"), [(1, 3, 5), (2, 1, 8), (2, 3, 6), (3, 3, 12)])
def test_each_tile_is_enlarged_as_torch_does_it(tiles, channels, size, monkeypatch):
    monkeypatch.setattr("teddy.data.tiles._AT_ONCE", 4)
    images, side = pixels(3, channels, size), size // tiles
    decoded = decode_tiles(images, tiles)
    assert decoded.dtype == torch.uint8
    slow = []
    for image in images:
        for row in range(tiles):
            for column in range(tiles):
                tile = image[:, row * side : (row + 1) * side, column * side : (column + 1) * side].double()
                slow.append(F.interpolate(tile[None], size=(size, size), mode="bilinear", align_corners=False)[0])
    assert decoded.shape == (3 * tiles**2, channels, size, size)
    assert (decoded.double() - torch.stack(slow)).abs().max() <= 0.5 + 1e-4


@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_a_tile_holds_the_means_of_small_squares(tiles):
    images, side = pixels(2 * tiles**2, 3, 12), 12 // tiles
    encoded = encode_tiles(images, tiles)
    assert encoded.shape == (2, 3, 12, 12)
    for index, image in enumerate(images):
        row, column = divmod(index % tiles**2, tiles)
        for y in range(side):
            for x in range(side):
                mean = image[:, y * tiles : (y + 1) * tiles, x * tiles : (x + 1) * tiles].double().mean((1, 2))
                found = encoded[index // tiles**2, :, row * side + y, column * side + x]
                assert (found.double() - mean).abs().max() <= 0.5


def test_decoding_gives_back_images_that_lose_nothing_by_shrinking():
    plain = pixels(8, 3, 1).expand(8, 3, 6, 6)
    assert torch.equal(decode_tiles(encode_tiles(plain, 2), 2), plain)


def test_a_side_that_cannot_be_divided_is_refused():
    with pytest.raises(UserError, match="images of 7 x 7 pixels cannot hold 2 x 2 tiles"):
        encode_tiles(pixels(4, 1, 7), 2)


def test_enlarging_is_decoding_without_rounding_and_differentiable():
    images = pixels(2, 3, 6)
    assert torch.equal(enlarge_tiles(images.float(), 2).round().to(torch.uint8), decode_tiles(images, 2))
    assert torch.autograd.gradcheck(lambda x: enlarge_tiles(x, 2), images.double().requires_grad_())
