"""Small models for the fuzz target ``slices_decode``: ``python fuzz/models.py`` makes models.zip anew.

Two slices or three groups of a few channels with random weights, every network alive. The file is kept, since seeds are
valid streams of just these weights, which another torch might draw otherwise. build.py turns it into a header.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import safetensors.numpy

MODELS = Path(__file__).resolve().parent / "models.zip"
STAMP = (2020, 1, 1, 0, 0, 0)  # equal contents give an equal file


def make() -> dict[str, dict[str, np.ndarray]]:
    """Arrays of each model by name."""
    import torch
    import torch.nn as nn

    from fastlic.entropy.groups.convert import GroupNetworks, Networks, convert_groups
    from fastlic.entropy.groups.model import Group
    from fastlic.entropy.mlic.convert import convert
    from fastlic.lifelike.models import enliven, logistic, photo
    from fastlic.models import MLIC, MLICPlus, MLICPlusPlus
    from fastlic.models.density import EntropyBottleneck
    from fastlic.models.mlic import Sizes

    def family(cls: type[MLICPlusPlus], narrow: bool, early: bool = False) -> dict[str, np.ndarray]:
        torch.manual_seed(3)
        n, m = 3, 8
        sizes = Sizes((5,), (4, 4, 3), (4, 3), (4, 4), (6, 5), (5,))
        model = cls(n, m, (4, 4, 4) if narrow else None, slices=2, sizes=sizes, early=early).eval()
        x = photo()[None, :, 128:256, 256:448]
        enliven(model, x, torch.linspace(0.2, 4, m), torch.linspace(0.3, 2, n))
        return convert(model, [x[0]]).to_arrays()

    def groups() -> dict[str, np.ndarray]:
        torch.manual_seed(3)
        n, sizes = 3, (3, 5, 2)

        def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

        own = []
        for group, kernel in ((Group(3, 0), 5), (Group(5, 1, (0,)), 3), (Group(2, None, (0, 1)), 3)):
            c, read = group.channels, sum(sizes[k] for k in group.reads)
            channel = nn.Sequential(conv(read, 6, kernel), nn.GELU(), conv(6, 4, 3)) if read else None
            context = conv(c, 5, kernel) if group.parity is not None else None
            known = 6 + (4 if read else 0) + (5 if context else 0)
            parameters = nn.Sequential(conv(known, 7, 3 if context is None else 1), nn.ReLU(), conv(7, 2 * c, 1))
            with torch.no_grad():
                parameters[2].weight *= 6
                parameters[2].bias[:c] += 1.5
            own.append(GroupNetworks(group, channel, context, parameters))
        h_s = nn.Sequential(nn.ConvTranspose2d(n, 5, 5, 2, 2, 1), nn.LeakyReLU(), nn.ConvTranspose2d(5, 6, 3, 2, 1, 1))
        down = nn.Conv2d(5, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, n, 3, 2, 1)
        h_a = nn.Sequential(conv(10, 5, 3), nn.LeakyReLU(), *down)
        bottleneck = EntropyBottleneck(n).eval()
        logistic(bottleneck, torch.linspace(0.5, 3, n))
        y = torch.randn(1, 10, 16, 24) * torch.linspace(0.2, 4, 10)[:, None, None]
        return convert_groups(Networks(h_a, h_s, bottleneck, own), [y]).to_arrays()

    return {
        "mlic": family(MLIC, True),
        "mlic_plus": family(MLICPlus, True),
        "mlic_plus_plus": family(MLICPlusPlus, False),
        "groups": groups(),
        "mlic_early": family(MLICPlusPlus, True, early=True),
    }


def save(models: dict[str, dict[str, np.ndarray]]) -> None:
    with zipfile.ZipFile(MODELS, "w") as archive:
        for model, arrays in models.items():
            data = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
            archive.writestr(zipfile.ZipInfo(f"{model}.safetensors", STAMP), data, zipfile.ZIP_DEFLATED, 9)


def load() -> dict[str, dict[str, np.ndarray]]:
    with zipfile.ZipFile(MODELS) as archive:
        return {Path(name).stem: safetensors.numpy.load(archive.read(name)) for name in archive.namelist()}


def header() -> str:
    """C++: per model the table of its arrays, plain data that compiles in no time."""
    lines = ['#include "model_entry.hpp"', "namespace fastlic::fuzz::models {"]
    for model, arrays in load().items():
        entries = []
        for index, (name, array) in enumerate(sorted(arrays.items())):
            symbol = f"{model}_{index}"
            values = ",".join(map(str, array.ravel().tolist())) or "0"
            lines.append(f"static const std::{array.dtype}_t {symbol}[] = {{{values}}};")
            shape = ",".join(map(str, array.shape))
            entries.append(f'{{"{name}", nn::Type::{array.dtype}, {array.ndim}, {{{shape}}}, {symbol}}}')
        lines.append(f"static const Entry {model}[] = {{{', '.join(entries)}}};")
    return "\n".join([*lines, "}", ""])


CODECS = ("scale", "jahp", "mlicpp", "mcquic")  # of tests/golden, by the first byte of ``codec_streams``


def codec_files() -> list[bytes]:
    golden = Path(__file__).resolve().parents[1] / "tests" / "golden"
    return [(golden / f"tiny_pixels_{name}.safetensors").read_bytes() for name in CODECS]


def codecs_header() -> str:
    """C++: those codec files, as texts, which compile faster than numbers."""
    lines = ["#include <cstdint>", "#include <span>", "#include <vector>", "namespace fastlic::fuzz {"]
    names = []
    for index, data in enumerate(codec_files()):
        pieces = (data[i : i + 4096] for i in range(0, len(data), 4096))
        text = "\n".join('"' + "".join(f"\\{byte:03o}" for byte in piece) + '"' for piece in pieces)
        lines.append(f"inline const char kCodec{index}[] = {text};")
        names.append(f"{{reinterpret_cast<const std::uint8_t*>(kCodec{index}), {len(data)}}}")
    lines.append(f"inline const std::vector<std::span<const std::uint8_t>> kCodecs = {{{', '.join(names)}}};")
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    save(make())
    print(f"{MODELS.name}: {MODELS.stat().st_size} bytes")
