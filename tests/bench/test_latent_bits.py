"""python -m fastlic.bench.latent_bits: where the bits of latents are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fastlic.bench.latent_bits import main
from fastlic.models import JAHP, MLICPlusPlus


@pytest.mark.parametrize("family", [JAHP, MLICPlusPlus, partial(MLICPlusPlus, blocks=1, early=True)])
def test_bits_of_slices_and_halves_add_up_to_the_float_path(family, tmp_path: Path, capsys):
    torch.manual_seed(0)
    model = family(16, 64, (8, 12, 16), qualities=8)
    torch.nn.init.constant_(model.gain.log_gain, 3.0)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "images").mkdir()
    pixels = torch.randint(0, 256, (100, 140, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.numpy()).save(tmp_path / "images" / "noise.png")
    assert main([str(tmp_path / "model.safetensors"), str(tmp_path / "images"), "--qualities", "8"]) == 0
    _, total, anchors, others = capsys.readouterr().out.splitlines()
    bits, z = (float(part.split()[-1]) for part in total.split(": ")[1].split(", z"))
    parts = [float(number) for row in (anchors, others) for number in row.split()[1:]]
    assert len(parts) == 4
    assert sum(parts) + z == pytest.approx(bits, abs=3)
    assert bits > 1000


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys):
    assert main(["checkpoint.safetensors", str(tmp_path)]) == 2
    assert "no images" in capsys.readouterr().err
