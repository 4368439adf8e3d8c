"""The integer path of channel groups beside its float networks, and what has no integer form."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn

from fastlic.codec import drivers
from fastlic.entropy.groups.model import IntegerGroups

from .latent_models import N, checkerboard, conv, converted, uneven


@torch.no_grad()
def test_hyper_analysis_follows_the_floats():
    torch.manual_seed(1)
    networks = checkerboard()
    model = converted(networks)
    y = torch.randn(64, 16, 24) * torch.linspace(0.2, 4, 64)[:, None, None]
    ((z, _, _),) = drivers.analyse_many(model, [y])
    expected = networks.hyper_analysis(y[None])[0]
    assert float((z - expected).abs().mean() / expected.std()) < 0.02


@torch.no_grad()
def test_integers_follow_the_floats():
    """Scales and means of the integer path stay near those of the float networks that it was made from."""
    torch.manual_seed(1)
    networks = checkerboard()
    model = converted(networks)
    generator = torch.Generator().manual_seed(2)
    z = torch.randint(-4, 5, (N, 3, 4), generator=generator)
    own = networks.groups[0]
    medians = networks.bottleneck.medians[:, None, None]
    features = networks.h_s(z[None] + medians)
    expected = own.parameters(torch.cat([torch.zeros(1, 128, 12, 16), features], 1))[0]
    integers = torch.cat([torch.zeros(128, 12, 16, dtype=torch.int64), model.hyper_features(z, 12, 16)])
    scales, means = model.parameters(0, integers)
    got = torch.cat([scales / 2**10, means / 2**6])
    assert float((got - expected).abs().mean() / expected.std()) < 0.02


def test_integers_that_are_missing_are_named():
    with pytest.raises(ValueError, match="missing"):
        IntegerGroups.from_arrays({})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda n: n.groups[3].parameters.__setitem__(0, conv(41, 34, 3)), "1x1 layers only"),
        (lambda n: n.groups[1].channel.__setitem__(1, nn.SiLU()), "SiLU"),
        (lambda n: n.groups[1].channel.__setitem__(0, nn.Conv2d(5, 21, 4, padding=2)), "no integer form"),
        (lambda n: n.groups[0].parameters.append(nn.GELU()), "ends with GELU"),
    ],
)
def test_networks_without_integer_form_are_named(change, fault):
    networks = uneven()
    change(networks)
    with pytest.raises(ValueError, match=fault):
        converted(networks)
