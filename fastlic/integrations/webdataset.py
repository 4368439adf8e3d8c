"""``wds.WebDataset(urls).decode(decoder)``: members ``.flic`` of a sample as pixels, without torch in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlic import light

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def decoder(
    key: str, data: bytes, model: str | light.Codec | None = None, max_pixels: int | None = None
) -> NDArray[np.uint8] | None:
    """A handler of ``webdataset.WebDataset.decode``; further arguments come by ``functools.partial``.

    Args:
        key: of the member, with a dot in front: ".flic", ".left.flic"; others are left to other handlers.
        data: its bytes.
        model, max_pixels: as of ``fastlic.light.decompress``.

    Returns:
        uint8 [H, W, 3], as "rgb8" gives for other images, grey and transparent ones too; None for what is no ``.flic``.

    Raises:
        CorruptStreamError, ModelMismatchError, PixelLimitError: webdataset's handler of errors decides what follows.
    """
    if key.rpartition(".")[2].lower() != "flic":
        return None
    # Loaders have a process per core.
    return light.decompress(data, model, threads=1, max_pixels=max_pixels, channels=3)
