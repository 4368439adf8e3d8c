"""The MLIC family: official outputs, official keys, and attention against loops that follow its definition."""

from __future__ import annotations

import pytest
import torch

from fastlic.models import JAHP, MLIC, MLICPlus, MLICPlusPlus
from fastlic.models.mlic import Sizes
from fastlic.models.mlic.attention import GlobalIntraContext, linear_attention, softmax_attention
from fastlic.models.mlic.checkerboard import anchors, even_rows, others, positions
from fastlic.models.mlic.checkpoint import normalise
from fastlic.models.mlic.local import LocalContext

FAMILY = {"mlic": MLIC, "mlic+": MLICPlus, "mlic++": MLICPlusPlus}
SMALL = Sizes((16, 12, 8), (10, 12, 6), (12, 6), (14, 8), (16, 12, 10), (12, 8))


@pytest.mark.golden
def test_mlicpp_gives_the_official_codes_outputs(official_mlicpp):
    stored = official_mlicpp
    model = MLICPlusPlus.from_state_dict(stored["state_dict"])
    with torch.no_grad():
        y = model.g_a(stored["x"])
        out = model(stored["x"])
        z = model.h_a(y)
    torch.testing.assert_close(y, stored["y"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(z, stored["z"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out["x_hat"], stored["forward_x_hat"], rtol=1e-4, atol=1e-5)
    for latent in ("y", "z"):
        wanted = stored["likelihoods"][f"{latent}_likelihoods"]
        torch.testing.assert_close(out["likelihoods"][latent], wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "cls, arguments, parameters, tensors",
    [
        (MLICPlusPlus, {"N": 192, "M": 320}, 83_501_408, 1023),
        (MLICPlusPlus, {"N": 192, "M": 320, "generation": 2023}, 116_716_928, 1065),
        (MLICPlus, {"N": 192, "M": 320}, 83_501_408, 1023),
        (MLIC, {"N": 192, "M": 192}, 41_885_452, None),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(cls, arguments, parameters, tensors):
    with torch.device("meta"):
        model = cls(**arguments)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert tensors is None or len(model.state_dict()) == tensors


@pytest.mark.parametrize("generation", [2023, 2024])
def test_a_published_checkpoint_file_loads_with_everything_it_holds(generation, tmp_path):
    model = MLICPlusPlus(8, 16, slices=2, sizes=SMALL, generation=generation).eval()
    renamed = {}
    for key, value in model.state_dict().items():
        for new, old in (("matrices.", "_matrix"), ("biases.", "_bias"), ("factors.", "_factor")):
            key = key.replace(f"entropy_bottleneck.{new}", f"entropy_bottleneck.{old}")
        renamed[f"module.{key}"] = value
    optimiser = torch.optim.Adam(model.parameters()).state_dict()
    torch.save({"epoch": 612, "state_dict": renamed, "loss": 1.5, "optimizer": optimiser}, tmp_path / "c.pth.tar")
    loaded = MLICPlusPlus.from_checkpoint(tmp_path / "c.pth.tar")
    assert loaded.config == model.config
    for (name, a), (other, b) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other and torch.equal(a, b)


def test_a_checkpoint_without_tensors_is_refused_in_words():
    with pytest.raises(ValueError, match="'epoch' is int"):
        normalise({"epoch": 3})
    with pytest.raises(ValueError, match="missing"):
        MLICPlusPlus.from_state_dict({"a": torch.zeros(1)})


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("widths", [None, (4, 6, 8)])
def test_sizes_are_read_off_a_state_dict(name, widths, slices, early):
    how = {"qualities": 2, "blocks": 3 - slices} if widths else {}
    model = FAMILY[name](8, 32, widths, slices=slices, sizes=SMALL, early=early, **how)
    again = FAMILY[name].from_state_dict(model.state_dict())
    assert again.config == model.config == FAMILY[name](**model.config).config
    x = torch.rand(2, 3, 64, 128)
    quality = torch.tensor([1.0, 2.0]) if widths else None
    with torch.no_grad():
        a, b = model.eval()(x, quality), again(x, quality)
    assert torch.equal(a["x_hat"], b["x_hat"])
    assert a["likelihoods"]["y"].shape == (2, 32, 4, 8) and a["likelihoods"]["z"].shape == (2, 8, 1, 2)


def test_narrow_models_take_the_transforms_of_a_jahp():
    jahp, model = JAHP(8, 32, (4, 6, 8), 2), MLICPlusPlus(8, 32, (4, 6, 8), 2, slices=2, sizes=SMALL)
    taken = {k: v for k, v in jahp.state_dict().items() if k.startswith(("g_a.", "g_s.", "h_a.", "h_s.", "gain."))}
    missing, unknown = model.load_state_dict(taken, strict=False)
    assert not unknown and not [k for k in missing if k.startswith(("g_", "h_", "gain"))]


def test_blocks_are_for_narrow_transforms():
    with pytest.raises(ValueError, match="blocks are for narrow transforms"):
        MLICPlusPlus(8, 32, slices=2, sizes=SMALL, blocks=1)


def test_residual_blocks_begin_as_nothing():
    model = MLICPlusPlus(8, 32, (4, 6, 8), slices=2, sizes=SMALL, blocks=2).eval()
    plain = MLICPlusPlus(8, 32, (4, 6, 8), slices=2, sizes=SMALL).eval()
    missing, unknown = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing and all(".blocks." in key for key in unknown) and len(unknown) == 6 * 2 * 4
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.g_a(x), plain.g_a(x))
        assert torch.equal(model(x)["x_hat"], plain(x)["x_hat"])


def test_anchors_in_odd_rows_know_those_in_even_rows_and_nothing_else():
    torch.manual_seed(0)
    model = MLICPlusPlus(8, 32, (4, 6, 8), slices=2, sizes=SMALL, early=True)
    head, hyper = torch.randn(1, 32, 6, 8), torch.randn(1, 64, 6, 8)
    coded, other = torch.randn(2, 1, 16, 6, 8)
    known = even_rows(coded) * anchors(torch.ones(6, 8))
    with torch.no_grad():
        model.entropy_parameters_early.fusion[0].reset_parameters()
        want = model.refined_anchors(head, coded, hyper)
        assert torch.equal(model.refined_anchors(head, coded * known + other * (1 - known), hyper), want)
        got = model.refined_anchors(head, other * known + coded * (1 - known), hyper)
    assert torch.equal(want[..., ::2, :], head[..., ::2, :]) and torch.equal(got[..., ::2, :], head[..., ::2, :])
    assert (got != want)[..., 1::2, :].any(1).all()


@pytest.mark.parametrize("slices", [1, 2])
def test_an_early_context_begins_as_nothing(slices):
    torch.manual_seed(0)
    sizes = {"widths": (4, 6, 8), "slices": slices, "sizes": SMALL}
    plain, model = MLICPlusPlus(8, 32, **sizes).eval(), MLICPlusPlus(8, 32, **sizes, early=True).eval()
    missing, unknown = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unknown and all(key.startswith(("early_context.", "entropy_parameters_early.")) for key in missing)
    model.start_early()
    y, z_hat = torch.randn(1, 32, 8, 8) * 5, torch.randn(1, 8, 2, 2)
    with torch.no_grad():
        for got, want in zip(model.code_latent(y, z_hat), plain.code_latent(y, z_hat), strict=True):
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("how", [{}, {"blocks": 1, "early": True}])
@pytest.mark.parametrize("name", FAMILY)
def test_every_parameter_learns(name, how):
    torch.manual_seed(0)
    model = FAMILY[name](8, 32, (4, 6, 8), 2, slices=2, sizes=SMALL, **how).train()
    with torch.no_grad():
        model.g_a[-1].weight *= 300  # an untrained g_a gives zeros, of which the context learns nothing
        for key, p in model.named_parameters():  # what begins as nothing passes no gradient on
            if ".blocks." in key or key == "entropy_parameters_early.fusion.0.weight":
                p += torch.randn_like(p) / 10
    out = model(torch.rand(2, 3, 64, 64), torch.tensor([1.0, 2.0]))
    bits = sum(-p.log2().sum() for p in out["likelihoods"].values())
    (out["x_hat"].square().sum() + bits + model.aux_loss()).backward()
    # The keys' last bias shifts a softmax as a whole, wherever a softmax over positions follows.
    idle = {k for k, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert {k for k in idle if "keys.1.bias" not in k} == set()


def test_anchors_are_where_row_plus_column_is_odd():
    assert positions(2, 4, 1).tolist() == [1, 3, 4, 6]
    x = torch.arange(1.0, 9).reshape(2, 4)
    assert torch.equal(anchors(x) + others(x), x) and anchors(x)[0, 0] == 0 != others(x)[0, 0]


def test_local_context_is_what_its_definition_says():
    """Loops over windows, queries, keys and heads, in float64."""
    torch.manual_seed(2)
    module = LocalContext(8, (12, 6)).double()
    x = anchors(torch.randn(1, 8, 5, 4, dtype=torch.double))
    with torch.no_grad():
        module.relative_position_table.normal_()
        got = module(x)[0]
        h, w = x.shape[2:]
        qkv = module.qkv_proj(module.norm1(x[0].permute(1, 2, 0)))
        zero = torch.zeros(24, dtype=torch.double)
        for row, column in ((0, 0), (2, 2), (4, 3), (1, 1)):
            tokens = [(row + i - 2, column + j - 2) for i in range(5) for j in range(5)]
            inside = [0 <= r < h and 0 <= c < w for r, c in tokens]
            anchor = [ok and (r + c) % 2 == 1 for ok, (r, c) in zip(inside, tokens, strict=True)]
            values = torch.stack([qkv[p] if ok else zero for ok, p in zip(inside, tokens, strict=True)])
            out = torch.zeros(8, 25, dtype=torch.double)
            for head in range(2):
                q, k, v = (values[:, 8 * part : 8 * part + 8][:, head::2] for part in range(3))
                for i in range(25):
                    score = torch.empty(25, dtype=torch.double)
                    for j in range(25):
                        down, right = i // 5 - j // 5, i % 5 - j % 5
                        score[j] = (q[i] * k[j]).sum() / 2
                        score[j] += module.relative_position_table[(down + 4) * 9 + right + 4, head]
                        score[j] += 0 if anchor[i] and anchor[j] else -100
                    out[4 * head : 4 * head + 4, i] = (score.softmax(0)[:, None] * v).sum(0)
            fused = torch.einsum("ocij,cij->o", module.fusion.weight, out.reshape(8, 5, 5)) + module.fusion.bias
            joined = module.proj(fused)
            want = joined + module.mlp(module.norm2(joined))
            torch.testing.assert_close(got[:, row, column], want, rtol=1e-9, atol=1e-9)


def test_linear_attention_is_what_its_definition_says():
    q, k, v = torch.randn(3, 1, 6, 7, dtype=torch.double)
    got = linear_attention(q, k, v, 2)[0]
    for head in (slice(0, 3), slice(3, 6)):
        keys, queries = k[0, head].softmax(1), q[0, head].softmax(0)
        torch.testing.assert_close(got[head], (keys @ v[0, head].T).T @ queries)


@pytest.mark.parametrize("masked", [False, True])
def test_softmax_attention_does_not_depend_on_its_blocks(monkeypatch, masked):
    q, k, v = torch.randn(3, 2, 8, 24, dtype=torch.double)
    at = torch.stack([torch.arange(24) // 6, torch.arange(24) % 6])
    places = (at, at) if masked else None
    scores = torch.einsum("bhdi,bhdj->bhij", q.reshape(2, 2, 4, 24), k.reshape(2, 2, 4, 24)) / 2
    if masked:
        scores = scores - 100.0 * ((at[:, :, None] - at[:, None]).abs().amax(0) <= 2)
    want = torch.einsum("bhij,bhdj->bhdi", scores.softmax(3), v.reshape(2, 2, 4, 24)).reshape(2, 8, 24)
    for block in (1 << 22, 500, 1):
        monkeypatch.setattr("fastlic.models.mlic.attention._BLOCK_SCORES", block)
        torch.testing.assert_close(softmax_attention(q, k, v, 2, places), want)


@pytest.mark.parametrize("linear", [True, False])
def test_intra_context_sees_no_other_position_of_the_current_slice(linear):
    module = GlobalIntraContext(8, (6, 4), linear)
    previous, current = torch.randn(2, 1, 8, 6, 6)
    with torch.no_grad():
        a = module(previous, anchors(current))
        b = module(previous, anchors(current + others(torch.randn(1, 8, 6, 6))))
    assert torch.equal(a, b)
