"""A Zarr v3 codec, ``serializer=Fastlic(quality=4)``: chunks that are images, as ``.flic`` streams. **Lossy.**

Its name in the metadata of an array is "fastlic", a name of this package and of no registry: other readers need it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from fastlic import DEFAULT_MODEL, DEFAULT_QUALITY
from fastlic.errors import optional
from fastlic.integrations import numcodecs

ArrayBytesCodec: Any = optional("zarr.abc.codec", "zarr").ArrayBytesCodec


@dataclass(frozen=True)
class Fastlic(ArrayBytesCodec):
    """The serializer of an array uint8 whose chunks are [H, W, 3], or [1, ..., H, W, 3].

    ``compressors=None`` belongs to it: nothing shrinks the streams further. Chunks at an edge are whole images too,
    filled up with the fill value.

    Args:
        model, quality: as of ``fastlic.integrations.numcodecs.Fastlic``.
    """

    model: str = DEFAULT_MODEL
    quality: float = DEFAULT_QUALITY
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Fastlic:
        """Of what an array's metadata hold."""
        return cls(**data.get("configuration", {}))

    def to_dict(self) -> dict[str, Any]:
        """For an array's metadata."""
        return {"name": "fastlic", "configuration": {"model": self.model, "quality": self.quality}}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Raises ValueError for an array that this codec cannot hold, before anything is written."""
        if dtype.to_native_dtype() != "uint8":
            raise ValueError(f"fastlic codes uint8 images, not {dtype.to_native_dtype()}")
        if (chunks := getattr(chunk_grid, "chunk_shape", None)) is not None:
            numcodecs.image_shape(tuple(chunks))

    async def _encode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        codec = numcodecs.Fastlic(self.model, self.quality)
        data = await asyncio.to_thread(codec.encode, chunk_array.as_numpy_array())
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        codec = numcodecs.Fastlic(self.model, self.quality)
        out = chunk_spec.prototype.nd_buffer.create(shape=chunk_spec.shape, dtype="uint8")
        await asyncio.to_thread(codec.decode, chunk_bytes.to_bytes(), out.as_numpy_array())
        return out

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Of no codec whose streams differ in size."""
        raise NotImplementedError("streams differ in size")
