"""Weights that a run starts from: another run's checkpoint, or a state dict in a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from fastlic.models import MLIC, Hyperprior
from fastlic.models.density import EntropyBottleneck
from fastlic.models.layers import GDN
from fastlic.models.state_files import read_checkpoint, read_weights

_CHAINS = ("g_a.", "g_s.", "h_a.", "h_s.", "entropy_bottleneck")  # networks whose layers follow each other
WORTH = "gain.worth"  # a buffer, but set for each training run and not the same in every model


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of a training run: ``model`` (state dict), ``config``, ``step``, ``validation``.

    Raises:
        ValueError: there is no such file, or it is no checkpoint.
    """
    return read_saved(path, {"model": dict, "config": dict, "step": int}, "cpu")


def read_saved(path: Path, parts: Mapping[str, type], device: str) -> dict[str, Any]:
    """What a run saved, tensors on ``device``.

    Args:
        parts: what must be in it, by name and type.

    Raises:
        ValueError: there is no such file, it is damaged, or something else.
    """
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}: is its folder the --out of a `fastlic train` run?")
    stored = read_checkpoint(path, device)
    wrong = [
        name for name, kind in parts.items() if not (isinstance(stored, dict) and isinstance(stored.get(name), kind))
    ]
    if wrong:
        raise ValueError(f"{path} is no checkpoint of a run: {', '.join(wrong)} not there, or of another kind")
    return dict(stored)


def read_state(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a .safetensors file, in the parts it was cut into, or in a run's checkpoint.

    Raises:
        ValueError: there is no such file.
    """
    if path.suffix != ".safetensors":
        state: Mapping[str, Tensor] = read_saved(path, {"model": dict}, "cpu")["model"]
        return state
    return read_weights(path)


def load_into(model: nn.Module, path: Path) -> list[str]:
    """Copy every parameter of ``path`` whose name and shape ``model`` has; returns those that it did not find.

    What squared errors are worth to the encoder (``gain.worth``) goes along.

    A model may so start from another family's: MLIC++ beside JAHP's transforms takes those from a JAHP. It may also
    have more channels between its layers than the weights: ``widened`` sees to it that it computes what they computed.

    Raises:
        ValueError: nothing fits.
    """
    state = without_inter(model, widened(model, read_state(path)))
    missing = []
    worth = {name: buffer for name, buffer in model.named_buffers() if name == WORTH and name in state}
    with torch.no_grad():
        for name, parameter in (*model.named_parameters(), *worth.items()):
            if name in state and state[name].shape == parameter.shape:
                parameter.copy_(state[name])
            else:
                missing.append(name)
    if len(missing) == len(list(model.parameters())):
        raise ValueError(f"{path} shares no parameter with this model")
    return missing


@torch.no_grad()
def widened(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with the layers of narrower transforms and hyper networks embedded in those of ``model``.

    A channel that is new has the model's own random kernel, which says what it will learn from, and nothing reads it
    yet: the wider model's outputs are those of the narrower one (Chen et al. 2016, Net2Net). That holds where layers
    follow each other. Entropy models, which join their inputs and split their outputs, and models with another number
    of latent channels are left as they are, and so are layers that would have to shrink.
    """
    result = dict(state)
    if not isinstance(model, Hyperprior) or _latent_channels(model) != _latent_channels(model, state):
        return result
    for name, module in model.named_modules():
        if not name.startswith(_CHAINS):
            continue
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            axes = (1, 0) if isinstance(module, nn.ConvTranspose2d) else (0, 1)  # of outputs, of inputs
            _embed(result, f"{name}.weight", module.weight, axes[1])
            if module.bias is not None:
                _embed(result, f"{name}.bias", module.bias, None)
        elif isinstance(module, GDN):
            _embed(result, f"{name}.gamma", module.gamma, 1, float(module.gamma_reparam.store(torch.zeros(()))))
            _embed(result, f"{name}.beta", module.beta, None)
        elif isinstance(module, EntropyBottleneck) and f"{name}.quantiles" in state:
            _add_channels(result, name, module)
    return result


def without_inter(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` of MLIC+ or MLIC++ for a ``model`` without inter context: nothing reads its channels any more."""
    result = dict(state)
    if not isinstance(model, MLIC) or "global_inter_context.1.skip.weight" not in state:
        return result
    inter = len(state["global_inter_context.1.skip.weight"])
    for index in range(1, model.slices):
        # The order is local, intra, inter, channel, hyper; anchors have neither of the first two.
        first, second = (f"entropy_parameters_{kind}.{index}.fusion.0.weight" for kind in ("anchor", "nonanchor"))
        before = state[second].shape[1] - state[first].shape[1]
        result[first] = state[first][:, inter:]
        result[second] = torch.cat([state[second][:, :before], state[second][:, before + inter :]], 1)
    return result


def _latent_channels(model: Hyperprior, state: Mapping[str, Tensor] | None = None) -> int | None:
    """Channels that the first layer of h_a reads, in the model or in ``state``; None if ``state`` has no such layer."""
    name, layer = next((n, m) for n, m in model.h_a.named_modules() if isinstance(m, nn.Conv2d))
    weight = layer.weight if state is None else state.get(f"h_a.{name}.weight")
    return None if weight is None else weight.shape[1]


def _add_channels(state: dict[str, Tensor], name: str, prior: EntropyBottleneck) -> None:
    """Channels of z beyond the stored ones begin as constants, with the density of the stored one that varies least.

    Their rate is next to nothing then, and nothing reads them yet.
    """
    quantiles = state[f"{name}.quantiles"]
    more = prior.channels - len(quantiles)
    if more <= 0:
        return
    least = int((quantiles[:, 0, 2] - quantiles[:, 0, 0]).argmin())
    for part, _ in prior.named_parameters():
        old = state[f"{name}.{part}"]
        state[f"{name}.{part}"] = torch.cat([old, old[least : least + 1].expand(more, *old.shape[1:])])
    last = max((key for key in state if key.startswith("h_a.") and key.endswith(".weight")), default=None)
    if last is not None:
        state[last][-more:] = 0
        state[last.replace("weight", "bias")][-more:] = quantiles[least, 0, 1]


def _embed(state: dict[str, Tensor], name: str, parameter: Tensor, inputs: int | None, unread: float = 0.0) -> None:
    """Put ``state[name]`` into the leading corner of a copy of ``parameter``.

    Args:
        inputs: axis whose new entries are weights of new channels, which get ``unread`` where an old output has them.
        unread: the stored value that stands for no influence.
    """
    old = state.get(name)
    if old is None or old.shape == parameter.shape or old.ndim != parameter.ndim:
        return
    if any(a > b for a, b in zip(old.shape, parameter.shape, strict=True)):
        return
    new = parameter.detach().clone()
    if inputs is not None:
        rows = [slice(None if axis == inputs else size) for axis, size in enumerate(old.shape)]
        new[tuple(rows)] = unread
    new[tuple(slice(size) for size in old.shape)] = old.to(new.dtype)
    state[name] = new
