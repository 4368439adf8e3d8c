"""Shared fixtures: the shipped photos, and small untrained codecs with lifelike latents."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastlic import Codec
from fastlic.codec.image_files import read_image
from fastlic.models import JAHP, MeanScaleHyperprior
from fastlic.train import klt
from fastlic.train.trainer import LAMBDAS

IMAGES = Path(__file__).parent / "images"


def small_model(cls: type[MeanScaleHyperprior], qualities: int = 8, seed: int = 0) -> MeanScaleHyperprior:
    """N=8, M=12: random entropy network, Karhunen-Loève transforms, so latents look like a trained model's."""
    torch.manual_seed(seed)
    model = cls(8, 12, (12, 16, 24), qualities=qualities)
    crops = read_image(IMAGES / "astronaut.png").pixels.float()[None, :, :224, :304] / 255
    klt.initialise(model, crops, LAMBDAS)
    if not qualities:  # without gains the orthonormal latents would round to nothing
        model.g_a[6].weight.data *= 10
        model.g_a[6].bias.data *= 10
        model.g_s[0].weight.data /= 10
    return model.eval()


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """A real photo, [3, 96, 136] uint8: neither side a multiple of 64, one not of 16."""
    return read_image(IMAGES / "chelsea.png").pixels[:, :96, :136]


@pytest.fixture(scope="session")
def codec(photo: Tensor) -> Codec:
    """A small JAHP codec of eight qualities."""
    return Codec(small_model(JAHP), calibration=[photo])


@pytest.fixture(scope="session", params=["jahp", "mean-scale", "jahp-fixed-rate"])
def any_codec(request: pytest.FixtureRequest, photo: Tensor) -> Codec:
    """Each kind of Gaussian codec in turn."""
    cls = MeanScaleHyperprior if request.param == "mean-scale" else JAHP
    return Codec(small_model(cls, qualities=0 if "fixed" in request.param else 8), calibration=[photo])
