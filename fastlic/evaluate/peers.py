"""JPEG, WebP and AVIF as Pillow writes them: the curves beside ours, from real files in memory."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from fastlic.errors import BackendUnavailable


@dataclass(frozen=True)
class Peer:
    """One codec at its best settings for size, swept over ``qualities``."""

    name: str
    qualities: tuple[int, ...]
    options: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name} (Pillow, {settings})"

    def compress(self, x: Tensor, quality: int) -> bytes:
        """File bytes of ``x`` [3, H, W] uint8."""
        out = io.BytesIO()
        image = Image.fromarray(x.permute(1, 2, 0).contiguous().numpy())
        image.save(out, self.name, quality=quality, **self.options)
        return out.getvalue()

    def decompress(self, data: bytes) -> Tensor:
        """[3, H, W] uint8."""
        with Image.open(io.BytesIO(data), formats=[self.name]) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


# Qualities reach from below 25 dB to above 40 dB on photographs, so that the curves overlap ours at both ends.
PEERS = {
    "jpeg": Peer("JPEG", (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95), {"optimize": True}),
    "webp": Peer("WebP", (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95), {"method": 6}),
    "avif": Peer("AVIF", (10, 20, 30, 40, 50, 60, 70, 80, 90), {"speed": 6, "subsampling": "4:2:0"}),
}

_PILLOW_FEATURES = {"jpeg": "jpg", "webp": "webp", "avif": "avif"}


def find_peer(name: str) -> Peer:
    """The peer called ``name``.

    Raises:
        ValueError: no such peer.
        BackendUnavailable: this Pillow was built without it.
    """
    if name not in PEERS:
        raise ValueError(f"peers are {', '.join(PEERS)}; got {name!r}")
    if not features.check(_PILLOW_FEATURES[name]):
        raise BackendUnavailable(f"this Pillow cannot write {PEERS[name].name}; its wheels from 11.3 on can")
    return PEERS[name]
