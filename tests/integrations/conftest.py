"""Small CompressAI models with lively latents: every class of its image models, by registry name."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor

import fastlic
from fastlic.errors import CorruptStreamError, ModelMismatchError
from fastlic.ops.backends import instruction_set, instruction_sets, torch_threads

compressai_models = pytest.importorskip("compressai.models")
vbr_models = pytest.importorskip("compressai.models.vbr")

BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "bmshj2018-factorized": lambda: compressai_models.FactorizedPrior(8, 12),
    "bmshj2018-factorized-relu": lambda: compressai_models.FactorizedPriorReLU(8, 12),
    "bmshj2018-hyperprior": lambda: compressai_models.ScaleHyperprior(8, 12),
    "mbt2018-mean": lambda: compressai_models.MeanScaleHyperprior(8, 12),
    "mbt2018": lambda: compressai_models.JointAutoregressiveHierarchicalPriors(8, 12),
    "cheng2020-anchor": lambda: compressai_models.Cheng2020Anchor(12),
    "cheng2020-attn": lambda: compressai_models.Cheng2020Attention(12),
    "cheng2020-anchor-checkerboard": lambda: compressai_models.Cheng2020AnchorCheckerboard(12),
    "elic2022-official": lambda: compressai_models.Elic2022Official(8, 40, [4, 4, 8, 8, 16]),
    "elic2022-chandelier": lambda: compressai_models.Elic2022Chandelier(8, 40, [4, 4, 8, 8, 16]),
    "bmshj2018-hyperprior-vbr": lambda: vbr_models.ScaleHyperpriorVbr(8, 12, vr_entbttlnck=True),
    "mbt2018-mean-vbr": lambda: vbr_models.MeanScaleHyperpriorVbr(8, 12),
    "mbt2018-vbr": lambda: vbr_models.JointAutoregressiveHierarchicalPriorsVbr(8, 12),
}
RASTER = ("mbt2018", "cheng2020-anchor", "cheng2020-attn", "mbt2018-vbr")
PARALLEL = tuple(name for name in BUILDERS if name not in RASTER)


def settings() -> Iterator[tuple[str, int]]:
    """Instruction set and threads, set while the loop's body runs: each set, on three threads or one."""
    for own, count in zip(instruction_sets(), itertools.cycle((3, 1)), strict=False):
        with instruction_set(own), torch_threads(count):
            yield own, count


def check_same_everywhere(x: Tensor, *models: Any) -> tuple[dict[str, Any], Tensor]:
    """All models code ``x`` to the same streams and pixels in all ``settings``, which are returned."""
    coded = models[0].compress(x)
    pixels = models[0].decompress(coded["strings"], coded["shape"])["x_hat"]
    for _ in settings():
        for model in models:
            assert model.compress(x)["strings"] == coded["strings"]
            assert torch.equal(model.decompress(coded["strings"], coded["shape"])["x_hat"], pixels)
    return coded, pixels


def elsewhere(plain: nn.Module, report: Any, path: Path, transforms: Any = "exact") -> Any:
    """A copy of the plain model, on the conversion that another's report saves."""
    report.save(path)
    twin = copy.deepcopy(plain)
    fastlic.accelerate(twin, calibration=path, transforms=transforms)
    return twin


def last_convolution(net: nn.Module) -> nn.Module:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    # Attention at the end passes its input on: what counts is the convolution before it.
    return ([m for m in net.children() if isinstance(m, kinds)] or [m for m in net.modules() if isinstance(m, kinds)])[
        -1
    ]


def spread(net: nn.Module, run: Callable[[], Any], deviation: float, mean: float = 0.0) -> None:
    """Rescale the last convolution of ``net`` so that its outputs have this deviation and mean."""
    layer: Any = last_convolution(net)
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    run()
    hook.remove()
    gain = deviation / (float(seen[0].std()) + 1e-9)
    layer.weight.data *= gain
    layer.bias.data.sub_(seen[0].mean()).mul_(gain).add_(mean)


@torch.no_grad()
def build(name: str, update: bool = True) -> Any:
    """A model whose latents, scales and hyper latents are all far from constant."""
    torch.manual_seed(3)
    model: Any = BUILDERS[name]().eval()
    x = image(1)
    spread(model.g_a, lambda: model.g_a(x), 4.0)
    codec = getattr(model, "latent_codec", None)
    hyper = codec["hyper"] if codec else model
    if hasattr(hyper, "h_a"):
        y = model.g_a(x)
        spread(hyper.h_a, lambda: hyper.h_a(y), 3.0)
        z = torch.round(hyper.h_a(y))
        spread(hyper.h_s, lambda: hyper.h_s(z), 1.0, 1.0)
    for net in model.modules():
        if hasattr(net, "entropy_parameters") and isinstance(net.entropy_parameters, nn.Sequential):
            last: Any = last_convolution(net.entropy_parameters)
            last.weight.data *= 3
            last.bias.data += 1
    if update:
        model.update(force=True)
    return model


def image(batch: int = 2, height: int = 128, width: int = 64) -> Tensor:
    """Smooth random pictures [batch, 3, height, width] in [0, 1]."""
    generator = torch.Generator().manual_seed(height + width)
    coarse = torch.rand(batch, 3, height // 8, width // 8, generator=generator)
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


CALIBRATION = [image(1)[0]]
X = image(1, 64, 64)


@pytest.fixture(scope="session")
def pristine() -> dict[str, Any]:
    """Models by name, made once: copy before changing one."""
    return {}


@pytest.fixture
def model_of(pristine: dict[str, Any]) -> Callable[[str], Any]:
    """A fresh copy of the model of that name."""

    def get(name: str) -> Any:
        if name not in pristine:
            pristine[name] = build(name)
        return copy.deepcopy(pristine[name])

    return get


@pytest.fixture(scope="session")
def conversions() -> dict[Any, Any]:
    """Accelerated models and their reports by name and options, made once."""
    return {}


@pytest.fixture
def converted(conversions: dict[Any, Any], model_of: Callable[[str], Any]) -> Callable[..., tuple[Any, Any]]:
    """(a fresh copy of an accelerated model, its report); copies keep their conversion."""

    def get(name: str, **options: Any) -> tuple[Any, Any]:
        key = (name, *options.items())
        if key not in conversions:
            model = model_of(name)
            conversions[key] = model, fastlic.accelerate(model, calibration=CALIBRATION, **options)
        model, report = conversions[key]
        return copy.deepcopy(model), report

    return get


@pytest.fixture
def native(converted: Callable[..., tuple[Any, Any]]) -> Callable[[str], Any]:
    """A fresh copy of a model that writes fastlic's own streams."""
    return lambda name: converted(name)[0]


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """Accelerates a model. Models of the weights of ``build(name)`` share a saved conversion, as that is quick."""
    folder = tmp_path_factory.mktemp("conversions")

    def accelerate(model, format="native", transforms="exact", name="mbt2018-mean"):
        if format == "compressai" and transforms == "exact":
            return fastlic.accelerate(model, format)
        path = folder / f"{name} {transforms}"
        if not path.exists():
            report = fastlic.accelerate(build(name), calibration=CALIBRATION, transforms=transforms)
            if not report.conversions + report.transforms:
                return fastlic.accelerate(model, format)
            report.save(path)
        try:
            return fastlic.accelerate(model, format, path, transforms=transforms)
        except ModelMismatchError:
            return fastlic.accelerate(model, format, CALIBRATION, transforms=transforms)

    return accelerate


@pytest.fixture(scope="session")
def served(serve):
    """(name, format, transforms) -> an accelerated model of one's own."""
    known = {}

    def get(name="mbt2018-mean", format="native", transforms="exact"):
        key = (name, format, transforms)
        if key not in known:
            known[key] = build(name)
            serve(known[key], format, transforms, name)
        return copy.deepcopy(known[key])

    return get


def kept(make):
    """``make`` of each key once; whoever asks gets a copy of their own."""
    known = {}

    def get(*key):
        if key not in known:
            known[key] = make(*key)
        return copy.deepcopy(known[key])

    return get


def check_damage_is_an_error(model):
    """A changed bit of y's string is told, not decoded."""
    out = model.compress(image(1, 64, 64))
    y, z = out["strings"]
    broken = bytearray(y[0])
    broken[-1] ^= 4
    with pytest.raises(CorruptStreamError):
        model.decompress([[bytes(broken)], z], out["shape"])
    return out


def flip_last_bit(parameter, place=-1):
    """The smallest change there is, and one that torch is not told of."""
    parameter.data.view(-1).view(torch.int32)[place] ^= 1


@pytest.fixture(scope="module")
def branch():
    """The latent codecs of CompressAI's main branch, and the integration that serves them (main_branch.codecs)."""
    from . import main_branch

    with main_branch.codecs() as found:
        yield found
