"""The float context network: kernel and twin against float64, gradients, torch.library's own checks."""

from __future__ import annotations

import pytest
import torch

from fastlic.models import JAHP
from fastlic.ops.context import masked_context

# Largest error over the largest output: rounding of the sums, or of 8-bit factors.
BOUNDS = {"ieee": 2e-6, "tf32x3": 1e-5, "bf16": 3e-2}


def problem(device, size=(3, 5), images=2, N=6, M=12, dtype=torch.float32):
    torch.manual_seed(2)
    model = JAHP(N, M, (8, 8, 8)).to(dtype)
    layers = [model.context_prediction, *(model.entropy_parameters[i] for i in (0, 2, 4))]
    y = torch.randn(images, M, *size, dtype=dtype) * 4
    hyper = torch.randn(images, 2 * M, *size, dtype=dtype)
    tensors = [t.detach().to(device) for t in (y, hyper, *(la.weight for la in layers), *(la.bias for la in layers))]
    with torch.no_grad():
        exact = model.double()
        context = exact.context_prediction(y.double())
        wanted = exact.entropy_parameters(torch.cat([hyper.double(), context], 1))
    return tensors[0], tensors[1], tensors[2:6], tensors[6:], wanted


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_parameters_are_the_models(size, backend, precision, device):
    *arguments, wanted = problem(device, size)
    found = masked_context(*arguments, precision=precision, backend=backend)
    off = (found.cpu().double() - wanted).abs().max() / wanted.abs().max()
    assert found.shape == wanted.shape and float(off) < BOUNDS[precision]
    if precision == "bf16":
        assert float(off) > 1e-4


@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_some_positions_are_those_of_the_whole_latent(backend, device):
    *arguments, wanted = problem(device)
    where = torch.tensor([14, 0, 7, 7], device=device)
    found = masked_context(*arguments, where=where, backend=backend)
    assert torch.allclose(found.cpu().double(), wanted.flatten(2)[:, :, where.cpu()], atol=1e-5)
    none = masked_context(*arguments, where=where[:0], backend=backend)
    assert none.shape == (2, 24, 0)


@pytest.mark.parametrize("positions", [False, True])
def test_gradients(positions, device):
    """The formula in float64 against differences; the operation's own against autograd of the plain layers."""
    from fastlic.kernels.reference import float_context as reference

    y, hyper, weights, biases, _ = problem("cpu", (2, 3), 1, 2, 4, torch.float64)
    leaves = [t.requires_grad_() for t in (y, hyper, *weights, *biases)]
    where = torch.tensor([4, 1]) if positions else None
    out = reference.masked_context(y, hyper, weights, biases, 0.01, where)
    grad = torch.randn(out.shape, dtype=torch.float64)
    wanted = torch.autograd.grad(out, leaves, grad)
    a, b, of_weights, of_biases = reference.gradient(grad, y, hyper, weights, biases, 0.01, where)
    for x, z in zip((a, b, *of_weights, *of_biases), wanted, strict=True):
        assert torch.allclose(x, z, atol=1e-10)
    floats = [t.detach().float().requires_grad_() for t in leaves]
    found = masked_context(floats[0], floats[1], floats[2:6], floats[6:], where=where, backend="reference")
    for x, z in zip(torch.autograd.grad(found, floats, grad.float()), wanted, strict=True):
        assert torch.allclose(x.double(), z, atol=1e-4)


@pytest.mark.parametrize("positions", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_operation_passes_torchs_checks(positions, device):
    y, hyper, weights, biases, _ = problem(device, (2, 3), 1, 2, 4)
    tensors = [t.requires_grad_() for t in (y, hyper, *weights, *biases)]
    where = torch.tensor([4, 1], device=device) if positions else None
    arguments = (tensors[0], tensors[1], tensors[2:6], tensors[6:], where, 0.01, "ieee", "reference")
    torch.library.opcheck(torch.ops.fastlic.masked_context.default, arguments)


def test_the_operation_is_compiled_without_a_break(device):
    *arguments, wanted = problem(device, (2, 3), 1, 2, 4)
    compiled = torch.compile(lambda *a: masked_context(*a, backend="triton") * 2, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(*arguments).cpu().double(), 2 * wanted, atol=1e-4)


def test_arguments_that_do_not_fit_say_what_came(device):
    y, hyper, weights, biases, _ = problem(device)
    with pytest.raises(ValueError, match="precision must be one of"):
        masked_context(y, hyper, weights, biases, precision="fp8")
    with pytest.raises(ValueError, match="alike"):
        masked_context(y, hyper[:, :, :1], weights, biases)
    with pytest.raises(TypeError, match="y must be float32"):
        masked_context(y.double(), hyper, weights, biases)
    with pytest.raises(ValueError, match="weights must be"):
        masked_context(y, hyper, weights[::-1], biases)
    with pytest.raises(ValueError, match="where must be int64"):
        masked_context(y, hyper, weights, biases, where=torch.tensor([0.5]))
