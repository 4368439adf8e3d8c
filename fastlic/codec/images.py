"""Image tensors in and out: what ``compress`` accepts, with errors that say what came and what is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fastlic.arguments import checked
from fastlic.integers.fixed import FEW, extremes

WANTED = "an RGB image [3, H, W] or a batch [B, 3, H, W], uint8 or floating point in [0, 1]"
_BESIDE = 0.25  # what resampling and rounding lead beyond a range, rather than another range
ANY_CHANNELS = (1, 2, 3, 4)  # grey, grey and alpha, RGB, RGBA
WANTED_ANY = (
    "an image [C, H, W] or a batch [B, C, H, W], C being 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha), uint8 "
    "or floating point in [0, 1]"
)
DTYPES = (torch.uint8, torch.float32, torch.float16, torch.bfloat16, torch.float64)


@checked
def as_images(x: object, channels: Sequence[int] = (3,)) -> Tensor:
    """``x`` as [B, C, H, W] of its own type: no value is read and none copied, so that a limit can be asked first.

    Args:
        channels: what C may be.

    Raises:
        TypeError: not a tensor.
        ValueError: another shape or type; the message names what was received.
    """
    wanted = WANTED if tuple(channels) == (3,) else WANTED_ANY
    if not isinstance(x, Tensor):
        raise TypeError(f"expected a torch.Tensor holding {wanted}; got {type(x).__name__}")
    if x.layout != torch.strided or x.device.type == "meta":
        raise TypeError(f"expected a dense torch.Tensor holding {wanted}; got {x.layout} on {x.device}")
    shape = tuple(x.shape)
    if x.ndim not in (3, 4):
        hint = "; a grey image [H, W] becomes one with x[None]" if x.ndim == 2 and 1 in channels else ""
        raise ValueError(f"expected {wanted}; got shape {shape}{hint}")
    given = x.shape[-3]
    if given not in channels:
        hint = ""
        if given == 1:
            hint = "; a grey image becomes RGB with x.expand(3, -1, -1)"
        elif given == 4:
            hint = "; without its alpha channel it is x[..., :3, :, :]"
        elif x.shape[-1] in (1, 3, 4):
            hint = "; channels come first: x.movedim(-1, -3)"
        raise ValueError(f"expected {wanted}; got shape {shape} with {given} channels{hint}")
    if 0 in shape:
        raise ValueError(f"expected {wanted} of at least one pixel; got shape {shape}")
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise ValueError(f"expected {wanted}; got {x.dtype}, which has no fixed range: convert first")
    return x.detach() if x.ndim == 4 else x.detach()[None]


@checked
def check_range(batch: Tensor) -> None:
    """Raises ValueError unless every value of ``as_images`` is finite and in the range of its type."""
    if batch.dtype == torch.uint8:
        return
    if batch.dtype not in DTYPES:  # torch finds the extremes of no smaller float
        batch = batch.float()
    low, high = extremes(batch)
    if not (low >= 0 and high <= 1):  # NaN fails both comparisons
        if not bool(torch.isfinite(batch).all()):
            raise ValueError("expected floating point in [0, 1]; got values that are not finite (NaN or infinity)")
        raise ValueError(
            f"expected floating point in [0, 1]; got values from {low:.6g} to {high:.6g}{_range_hint(low, high)}"
        )


def _range_hint(low: float, high: float) -> str:
    if low >= -_BESIDE and high <= 1 + _BESIDE:
        return "; clip what lies outside: x.clamp(0, 1)"
    if low >= -1 - _BESIDE and high <= 1 + _BESIDE:
        return "; if -1 stands for black: (x + 1) / 2"
    return "; divide by 255" if low >= 0 and 2 < high <= 256 else ""


@checked
def as_float(image: Tensor) -> Tensor:
    """Images that passed ``check_range`` as float32 in [0, 1]."""
    return image.float().div_(255) if image.dtype == torch.uint8 else image.float()


@checked
def as_pixels(image: Tensor) -> Tensor:
    """Images that passed ``check_range`` as uint8, rounded to the nearest."""
    if image.dtype == torch.uint8:
        return image
    if image.device.type == "cpu" and image.numel() <= FEW:  # as ``extremes`` has it
        scaled = image.float().numpy() * np.float32(255)
        return torch.from_numpy(np.rint(scaled, out=scaled).astype(np.uint8))
    return image.float().mul(255).round_().to(torch.uint8)


@checked
def colours(image: Tensor) -> Tensor:
    """The three channels that are coded of an image [C, H, W], or of a batch: of a grey one R = G = B."""
    of = image[..., :3, :, :] if image.shape[-3] > 2 else image[..., :1, :, :]
    return of.expand(*image.shape[:-3], 3, -1, -1)


@checked
def with_channels(image: Tensor, channels: int, *, grey: bool, alpha: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A decoded image [3, H, W] with as many channels as are asked for, [channels, H, W] of ``dtype``.

    Grey is (19595 R + 38470 G + 7471 B + 32768) >> 16 of pixels, and of floats the same without rounding.

    Args:
        image: uint8 pixels, or a reconstruction in floats.
        channels: 1 grey, 3 red, green and blue; 2 and 4 with alpha.
        grey: whether the image was grey when it was coded, and is again.
        alpha: uint8 [H, W] on the image's device; None: opaque.
    """
    if image.ndim != 3 or image.shape[0] != 3 or not 1 <= channels <= 4:
        raise ValueError(f"expected [3, H, W] and 1 to 4 channels of it; got {tuple(image.shape)} and {channels}")
    if grey or channels < 3:
        weights = [19595, 38470, 7471]
        if image.dtype == torch.uint8:
            luma = torch.full_like(image[0], 32768, dtype=torch.int32)
            for i, weight in enumerate(weights):
                luma += weight * image[i].int()
            image = (luma >> 16).to(torch.uint8)[None]
        else:
            own = torch.tensor(weights, dtype=image.dtype, device=image.device) / 65536
            image = (image * own[:, None, None]).sum(0, keepdim=True)
        image = image.expand(3 if channels > 2 else 1, -1, -1)
    image = to_dtype(image, dtype)
    if channels % 2:
        return image
    plane = torch.full_like(image[0], 255, dtype=torch.uint8) if alpha is None else alpha
    return torch.cat([image, to_dtype(plane[None], dtype)])


@checked
def as_batch(x: object) -> Tensor:
    """``x`` as float32 [B, 3, H, W] in [0, 1] on its own device.

    Raises:
        TypeError, ValueError: as of :func:`as_images` and :func:`check_range`.
    """
    batch = as_images(x)
    check_range(batch)
    return as_float(batch)


@checked
def check_dtype(dtype: torch.dtype) -> None:
    """Raises ValueError unless decompressed images can have this type."""
    if dtype not in DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
        raise ValueError(f"dtype must be one of {names}; got {dtype}")


@checked
def to_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels uint8, or a reconstruction (any range) clipped to [0, 1], converted; uint8 means 0..255, rounded."""
    if x.dtype == torch.uint8:
        if dtype == torch.uint8:
            return x
        if x.device.type != "cpu":  # a GPU's quotients may differ in the last bit
            return to_dtype(torch.arange(256, dtype=torch.uint8), dtype).to(x.device)[x.int()]
        return x.to(torch.float32).div_(255).to(dtype)
    x = x.clamp(0, 1)
    return x.mul_(255).round_().to(torch.uint8) if dtype == torch.uint8 else x.to(dtype)
