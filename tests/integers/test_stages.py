"""Float networks as stages: they compute what the network does, and name what has no integer form."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn

from fastlic.integers.layer import HALVED, PLAIN, SHUFFLED, TRANSPOSED, TURNED
from fastlic.integers.ranges import Ranges
from fastlic.integers.stages import stages_of


def conv(inputs: int, outputs: int, **how) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **how)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    relu = nn.ReLU()  # one module at two places
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, 2, 2), relu, nn.Dropout(), conv(6, 8, bias=False), relu,
        nn.Sequential(conv(8, 20), nn.PixelShuffle(2)), nn.GELU(), nn.Identity(),
        nn.ConvTranspose2d(5, 4, 3, 1, 1), nn.LeakyReLU(0.2), nn.ConvTranspose2d(4, 8, 5, 2, 2, 1), nn.LeakyReLU(),
        nn.ConvTranspose2d(8, 12, 3, 1, 1), nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(3, 2, 1),
    ).eval()  # fmt: skip


def test_stages_run_as_the_network_does():
    stages = stages_of(network(), "n")
    kinds = [HALVED, PLAIN, SHUFFLED, TURNED, TRANSPOSED, SHUFFLED, PLAIN]
    assert [stage.kind for stage in stages] == kinds
    assert [stage.name for stage in stages] == ["n.0", "n.3", "n.5.0", "n.8", "n.10", "n.12", "n.15"]
    assert [stage.inputs for stage in stages] == [3, 6, 8, 5, 4, 8, 3]
    x = torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        want = network()(x)
        for same in (stages, [stage.turned() for stage in stages]):
            assert torch.allclose(Ranges().run(same, x), want, atol=1e-5)
    assert all(stage.turned().kind is not TURNED for stage in stages)


def test_of_every_stage_is_seen_what_sets_its_unit():
    """Outputs, four for each channel before they are shuffled; inputs of a GELU."""
    ranges, seen = Ranges(), {}
    stages = stages_of(network(), "n")
    x = torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ranges.run(stages, x)
        for stage in stages:
            bare = stage.convolve(x)
            seen[stage.name] = bare if stage.curve else stage.activate(bare)
            x = stage.shuffled(stage.activate(bare))
    for name, values in seen.items():
        assert torch.equal(torch.from_numpy(ranges.largest(name)).float(), values.abs().amax((0, 2, 3))), name


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        ([conv(2, 4), nn.SiLU()], r"n\.1 is a SiLU"),
        ([conv(2, 4), nn.Sequential(nn.ReLU(), nn.Tanh())], r"n\.1\.1 is a Tanh"),
        ([nn.ReLU(), conv(2, 4)], r"n\.0 is a ReLU"),
        ([conv(2, 4), nn.ReLU(), nn.LeakyReLU()], r"n\.2 is a LeakyReLU"),
        ([conv(2, 4), nn.GELU(), nn.ReLU()], r"n\.2 is a ReLU"),
        ([conv(2, 4), nn.GELU("tanh")], r"n\.1 is a GELU"),
        ([conv(2, 6), nn.PixelShuffle(2)], r"n\.1 is a PixelShuffle"),
        ([conv(2, 16), nn.PixelShuffle(4)], r"n\.1 is a PixelShuffle"),
        ([conv(2, 16), nn.PixelShuffle(2), nn.PixelShuffle(2)], r"n\.2 is a PixelShuffle"),
        ([nn.Conv2d(2, 4, 4, padding=2)], r"n\.0 is a convolution of a kind"),
        ([nn.Conv2d(2, 4, 3)], r"n\.0 is a convolution of a kind"),
        ([nn.Conv2d(2, 4, 3, 3, 1)], r"n\.0 is a convolution of a kind"),
        ([nn.Conv2d(2, 4, (3, 1), padding=(1, 0))], r"n\.0 is a convolution of a kind"),
        ([conv(2, 4, groups=2)], r"n\.0 is a convolution of a kind"),
        ([conv(2, 4, padding_mode="reflect")], r"n\.0 is a convolution of a kind"),
        ([nn.Conv2d(2, 4, 3, padding=2, dilation=2)], r"n\.0 is a convolution of a kind"),
        ([nn.ConvTranspose2d(2, 4, 3, 2, 1)], r"n\.0 is a convolution of a kind"),
        ([], "no convolution"),
    ],
)
def test_what_has_no_integer_form_is_named(layers, fault):
    with pytest.raises(ValueError, match=fault):
        stages_of(nn.Sequential(*layers), "n")
