"""The same weights give the same outputs as CompressAI's own classes.

tests/golden/compressai_*.safetensors hold weights, an input and the outputs of CompressAI 1.2.8 on small random models;
where the package is installed, its classes are also run side by side.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fastlic.models import JAHP, MeanScaleHyperprior, ScaleHyperprior

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = {"jahp": JAHP, "mean_scale": MeanScaleHyperprior, "scale": ScaleHyperprior}
PEERS = {
    "jahp": "JointAutoregressiveHierarchicalPriors",
    "mean_scale": "MeanScaleHyperprior",
    "scale": "ScaleHyperprior",
}


@pytest.mark.golden
@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_equal_those_recorded_from_compressai(name: str):
    stored = load_file(GOLDEN / f"compressai_{name}.safetensors")
    state = {k.removeprefix("state."): v for k, v in stored.items() if k.startswith("state.")}
    state["gaussian_conditional._quantized_cdf"] = torch.zeros(64, 3133, dtype=torch.int32)  # left out: 800 kB of it
    with torch.no_grad():
        out = FAMILIES[name].from_state_dict(state)(stored["x"])
    torch.testing.assert_close(out["x_hat"], stored["x_hat"], rtol=1e-4, atol=1e-5)
    for latent in ("y", "z"):
        torch.testing.assert_close(
            out["likelihoods"][latent].clamp_min(1e-7).log2(),
            stored[f"likelihoods.{latent}"].clamp_min(1e-7).log2(),
            rtol=1e-3,
            atol=1e-3,
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_state_dict_keys_and_outputs_equal_the_installed_compressai(name: str):
    models = pytest.importorskip("compressai.models")
    torch.manual_seed(0)
    peer = getattr(models, PEERS[name])(6, 9).eval()
    own = FAMILIES[name](6, 9)
    assert {k: v.shape for k, v in own.state_dict().items()} == {k: v.shape for k, v in peer.state_dict().items()}
    peer.g_a[6].weight.data *= 12
    peer.update(force=True)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        got, want = FAMILIES[name].from_state_dict(peer.state_dict())(x), peer(x)
    torch.testing.assert_close(got["x_hat"], want["x_hat"], rtol=1e-4, atol=1e-5)
    for latent in ("y", "z"):
        bits = [-out["likelihoods"][latent].log2().sum() for out in (got, want)]
        torch.testing.assert_close(bits[0], bits[1], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("sizes", [(192, 192), (192, 320)])
def test_parameter_counts_are_those_published(sizes: tuple[int, int]):
    counts = {(192, 192): 14_130_467, (192, 320): 25_504_596}
    with torch.device("meta"):
        model = JAHP(*sizes)
    assert sum(p.numel() for p in model.parameters()) == counts[sizes]


def test_a_state_dict_of_something_else_is_refused_by_name():
    with pytest.raises(ValueError, match=r"g_a\.0\.weight"):
        JAHP.from_state_dict({"fc.weight": torch.zeros(3, 3)})
    state = JAHP(4, 6).state_dict()
    state["g_a.0.weight"] = torch.zeros(5, 3, 5, 5)
    with pytest.raises(ValueError, match="does not fit JAHP"):
        JAHP.from_state_dict(state)
