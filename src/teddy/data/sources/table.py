"""Images in a column of a table of the library ``datasets``."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image

from teddy.config.errors import BadInput
from teddy.data.images import DecodedImages, Indices, centre_square, pil_mode, to_tensor


class TableImages(DecodedImages):
    """A split of a ``datasets`` table whose image column holds encoded bytes or a path."""

    def __init__(
        self,
        table: Any,
        column: str,
        labels: torch.Tensor,
        channels: int,
        size: int,
        resize: int | None = None,
    ) -> None:
        super().__init__(labels, channels, size, resize)
        self.table = table.select_columns([column])
        self.column = column

    def open(self, index: int) -> Image.Image:
        """The decoded image in mode L or RGB, at its own size.

        Raises:
            BadInput: the bytes are no image.
        """
        return self._decode(self.table[index][self.column], index)

    def take(self, indices: Indices) -> torch.Tensor:
        """The images at ``indices`` in evaluation geometry, uint8 (n, C, size, size)."""
        places = [int(i) for i in indices]
        if not places:
            return super().take(places)
        cells = self.table[places][self.column]  # one look-up for all rows is much faster than one for each
        images = [self._decode(cell, place) for cell, place in zip(cells, places, strict=True)]
        return torch.stack([to_tensor(centre_square(image, self.size, self.resize)) for image in images])

    def _decode(self, cell: dict[str, Any], index: int) -> Image.Image:
        try:
            with Image.open(io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"]) as image:
                return image.convert(pil_mode(self.channels))
        except (OSError, ValueError, SyntaxError, TypeError) as error:
            raise BadInput(f"row {index} of the column {self.column} cannot be read as an image ({error}).") from error
