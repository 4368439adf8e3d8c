"""Models of CompressAI that behave like trained ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("compressai.models")

from fastlic.lifelike.compressai import MODELS, lively, trained

CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "jahp_float16.safetensors"


def test_every_image_model_is_there():
    from compressai.registry import MODELS as registry

    others = {"ssf2020", "hrtzxf2022-pcc-rec", "sfu2023-pcc-rec-pointnet", "sfu2024-pcc-rec-pointnet2-ssg"}
    assert set(MODELS) == set(registry) - others


@pytest.mark.parametrize("name", MODELS)
def test_random_models_are_alive(name):
    model, x = lively(name, 16), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        y = model.g_a(x)
        out = model.compress(x)
    assert y.std() > 0.2
    assert sum(len(part[0]) for part in out["strings"]) > 60


@pytest.mark.skipif(not CHECKPOINT.exists(), reason="needs the repository's checkpoint")
def test_trained_weights_become_a_model_of_compressai():
    from safetensors.torch import load_file

    from fastlic.models import JAHP

    state = {name: tensor.float() for name, tensor in load_file(CHECKPOINT).items()}
    own, model = JAHP.from_state_dict(state), trained(CHECKPOINT, 3)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        gain, inverse = own.gains(3.0, 1)
        y = own.g_a(x) * gain
        torch.testing.assert_close(model.g_a(x), y, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(model.g_s(y), own.g_s(y * inverse), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(model.h_a(y), own.hyper_analysis(y), rtol=1e-3, atol=1e-3)
