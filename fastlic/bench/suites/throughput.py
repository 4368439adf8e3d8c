"""Images of one size together, as whole files: on a GPU where there is one, otherwise on all of the CPU's cores.

The image is the demonstration photo at Kodak's size, in pixels that differ from copy to copy. Wall time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch

from fastlic.bench.runner import Case, Runs, Wanted, offered
from fastlic.bench.suites.transforms import WAYS, codec_of, pixels, quality_of

_MEGAPIXELS = 512 * 768 / 1e6
_MODELS = ("jahp", "mlic++", "mcquic")


def cases(wanted: Wanted) -> Iterator[Case]:
    """Beside the CPU's one image after the other. 64 images take a CPU a minute: without a GPU there are 8."""
    gpu = torch.cuda.is_available()
    backend, device = ("triton", "cuda") if gpu else ("cpp", "cpu")
    choices = [(model, count, device) for model in _MODELS for count in ((1, 8, 64) if gpu else (1, 8))]
    for (model, count, _), names in offered(wanted, choices, "{way} of {} 512x768, {} together on {}", WAYS):
        codec: Any = codec_of(model)
        images, quality = torch.stack([pixels().roll(i, -1) for i in range(count)]), quality_of(codec)
        streams = codec.compress(images, quality, "cpp")
        runs: Runs = {
            "compress": partial(codec.compress, images.to(device), quality, backend),
            "decompress": partial(codec.decompress, streams, device, torch.uint8, backend),
        }
        one = {
            "compress": partial(codec.compress, quality=quality, backend="cpp"),
            "decompress": partial(codec.decompress, dtype=torch.uint8, backend="cpp"),
        }
        each = {"compress": images, "decompress": streams}
        for way, name in names.items():
            peer = partial(_one_by_one, one[way], each[way])
            yield Case(name, runs[way], count * _MEGAPIXELS, "MP", peer, "CPU, one by one", clock="wall")


def _one_by_one(call: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    return [call(item) for item in items]
