"""CompressAI's Gaussian models on the integer entropy path: conversion, and coding through the wavefront engine."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.numpy import save as serialised
from torch import Tensor
from typing_extensions import Self

from fastlic import config
from fastlic.codec import drivers
from fastlic.codec.calibration import default_calibration
from fastlic.codec.images import as_batch
from fastlic.entropy.convert import EntropyNetworks, convert_networks
from fastlic.entropy.convert_variable import VariableNetworks, convert_variable
from fastlic.entropy.fingerprint import of_arrays
from fastlic.entropy.model import IntegerEntropyModel
from fastlic.entropy.passes import Latents
from fastlic.entropy.variable import VariableRateModel
from fastlic.errors import BackendUnavailable, CodecFileError, ModelMismatchError
from fastlic.files import write_whole
from fastlic.integers.fixed import MEAN_BITS
from fastlic.integrations.compressai import native_stream
from fastlic.integrations.compressai.settings import Settings
from fastlic.integrations.compressai.snapshot import Named, Snapshot, as_used
from fastlic.integrations.compressai.swap import Cache, is_compiled, state_of
from fastlic.models.density import EntropyBottleneck
from fastlic.models.layers import CONTEXT_KERNEL, MaskedConv2d
from fastlic.models.state_files import read_tensors
from fastlic.ops.checksum import crc32c
from fastlic.ops.latents import HYPER_STRIDE, Target

IMAGE_STRIDE = 64  # of z
_LATENT_STRIDE = 16
Calibration = Sequence[Tensor] | str | Path | None
P = TypeVar("P", bound="Parts")


def checked_calibration(given: Any) -> Calibration:
    """Images [3, H, W] as float32 in [0, 1], the path of a file, or None.

    Raises:
        ValueError: neither; the message says what came and what is right. Models would stay with floats otherwise.
    """
    wanted = "calibration must be a list of images [3, H, W] in [0, 1], or the path of a file that report.save wrote"
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        if path.is_dir():
            raise ValueError(f"{wanted}; {str(given)!r} is {'a folder' if str(given) else 'no path'}")
        return path
    if isinstance(given, Tensor) and given.ndim == 3:
        raise ValueError(f"{wanted}; got one tensor {list(given.shape)}: put it into a list, [x]")
    if not isinstance(given, Iterable):
        raise ValueError(f"{wanted}; got {type(given).__name__}")
    images: list[Tensor] = []
    for i, image in enumerate(given):
        try:
            images += as_batch(image)
        except (TypeError, ValueError) as error:
            raise ValueError(f"calibration[{i}]: {error}") from error
    if not images:
        raise ValueError(f"{wanted}; got none: leave the argument out to have the package's demonstration photo")
    return images


class CodingRate(NamedTuple):
    """At which rate a model of variable rate codes: the arguments of ``VariableRateModel.at``."""

    gain: float
    stepped: bool
    offset: bool


@dataclass(frozen=True)
class VariableParts:
    """What models of variable rate (compressai.models.vbr) have besides; see fastlic.entropy.variable.

    gains: parameter [rates], of any sign; hyper_step: from 1 / gain [1] to z's step, at least ``least_step``.
    """

    gains: Tensor
    offsets: Any
    shift: Any = None
    hyper_step: Any = None
    least_step: float = 0.5

    @property
    def modules(self) -> list[nn.Module]:
        return [m for m in (self.offsets, self.shift, self.hyper_step) if m is not None]

    @torch.no_grad()
    def networks(self, networks: EntropyNetworks) -> VariableNetworks:
        """Copies on the CPU in float32, as conversion takes them."""
        gains = self.gains.detach().abs().float().cpu()
        steps: tuple[float, ...] = ()
        if self.hyper_step is not None:
            network = _copy(self.hyper_step)
            steps = tuple(max(float(network(1.0 / gain.view(1))), self.least_step) for gain in gains)
        shift: Any = None if self.shift is None else _copy(self.shift)
        if shift is not None and not isinstance(shift, nn.Linear):
            raise ValueError(f"what is added to the context is no linear layer: {shift}")
        return VariableNetworks(networks, tuple(gains.tolist()), steps, shift, _sequence(self.offsets, "QuantABCD"))


_NAMES = {
    "bottleneck": "entropy_bottleneck",
    "context": "context_prediction",
    "head": "entropy_parameters",
    "codec": "y",
    "offsets": "QuantABCD",
    "shift": "scale_to_context",
    "hyper_step": "gayn2zqstep",
}


@dataclass(frozen=True)
class Parts:
    """The modules of a model that make up its entropy path. ``weights`` are what conversion depends on.

    Attributes:
        stride: calibration images have sides that are multiples of it.
    """

    h_a: Any
    h_s: Any
    bottleneck: Any
    context: Any = None
    head: Any = None
    of_magnitude: bool = False
    scales_alone: bool = False
    variable: VariableParts | None = None
    stride: int = IMAGE_STRIDE

    @property
    def modules(self) -> list[nn.Module]:
        own = [m for m in (self.h_s, self.bottleneck, self.context, self.head) if m is not None]
        return own if self.variable is None else own + self.variable.modules

    @property
    def weights(self) -> list[Tensor]:
        own = [] if self.variable is None else [self.variable.gains]
        layers = {id(layer): layer for module in self.modules for layer in module.modules()}
        given = ((layer, key, own) for layer in layers.values() for key, own in layer._parameters.items())
        return own + [as_used(layer, key, parameter) for layer, key, parameter in given if parameter is not None]

    @property
    def named(self) -> Named:
        """All of them under the names that CompressAI's models have for them."""
        fields = {**({} if self.variable is None else vars(self.variable)), **vars(self)}
        names = {id(value): _NAMES.get(key, key) for key, value in fields.items()}
        own: list[Any] = [] if self.variable is None else [("Gain", self.variable.gains)]
        return own + [(names.get(id(module), type(module).__name__), module) for module in self.modules]

    def networks(self) -> EntropyNetworks:
        """Copies on the CPU in float32, as conversion takes them.

        Raises:
            ValueError: a part is of a kind that has no integer form.
        """
        bottleneck = self.density()
        h_a, h_s = _copy(self.h_a, "h_a"), _sequence(self.h_s, "h_s")
        context = None if self.context is None else _context(self.context)
        head = None if self.head is None else _sequence(self.head, "entropy_parameters")

        def hyper_analysis(y: Tensor) -> Tensor:
            z: Tensor = h_a(y.abs() if self.of_magnitude else y)
            return z

        return EntropyNetworks(hyper_analysis, h_s, bottleneck, context, head, self.scales_alone)

    def density(self) -> EntropyBottleneck:
        """A copy of z's bottleneck as fastlic's own. Raises ValueError: it is of another kind."""
        if self.bottleneck.filters != (3, 3, 3, 3):
            raise ValueError(f"the entropy bottleneck has filters {self.bottleneck.filters}")
        bottleneck = EntropyBottleneck(self.bottleneck.channels).eval()
        state = {_bottleneck_key(k): v.detach().float().cpu() for k, v in self.bottleneck.state_dict().items()}
        state = {k: v for k, v in state.items() if not k.startswith("_")}
        missing, unknown = bottleneck.load_state_dict(state, strict=False)
        if unknown or any(not name.startswith("_") for name in missing):
            raise ValueError(f"the entropy bottleneck lacks {missing} and has {unknown} in their place")
        return bottleneck

    @property
    def kind(self) -> Any:
        """The class of their integers."""
        return IntegerEntropyModel if self.variable is None else VariableRateModel

    def convert(self, latents: Sequence[Tensor]) -> Any:
        """Their integers, calibrated on latents [1, M, h, w]. Raises ValueError: a part has no integer form."""
        networks = self.networks()
        if self.variable is None:
            return convert_networks(networks, latents)
        return convert_variable(self.variable.networks(networks), latents)

    def digest(self) -> int:
        """Checksum of the weights at half precision, so that ``half()`` and ``double()`` do not count as changes."""
        return digest_of(self.weights)


def digest_of(parameters: Iterable[Tensor]) -> int:
    """Checksum of weights at half precision."""
    crc = 0
    for parameter in parameters:
        values = parameter.detach().to("cpu", torch.float16).contiguous().numpy()
        crc = crc32c(values.reshape(-1).view(np.uint8), crc)
    return crc


def _bottleneck_key(key: str) -> str:
    """EntropyBottleneckVbr's names of its parameters (_matrix0) as EntropyBottleneck's (matrices.0)."""
    for old, new in (("_matrix", "matrices."), ("_bias", "biases."), ("_factor", "factors.")):
        if key.startswith(old):
            return new + key[len(old) :]
    return key


def _copy(module: nn.Module, name: str = "") -> nn.Module:
    """A copy on the CPU in float32, without hooks: they are not converted either.

    Raises:
        ValueError: a layer's weight is made by a hook at each call (weight_norm, spectral_norm and prune of
            torch.nn.utils), so that what it holds now may be an old one.
    """
    import copy

    if is_compiled(module):
        module = module._orig_mod  # type: ignore[assignment]
    memo: dict[int, Any] = {}
    for path, layer in module.named_modules(prefix=name):
        if computed := {"weight", "bias"} & set(vars(layer)):
            raise ValueError(f"a hook makes the {' and '.join(sorted(computed))} of {path or type(layer).__name__}")
        for hooks in (layer._forward_hooks, layer._forward_pre_hooks):
            memo[id(hooks)] = type(hooks)()
    return copy.deepcopy(module, memo).float().cpu().eval()


def _sequence(module: nn.Module, name: str) -> nn.Sequential:
    twin = _copy(module, name)
    if is_compiled(module):
        module = module._orig_mod  # type: ignore[assignment]
    if isinstance(twin, (nn.Conv2d, nn.ConvTranspose2d)):
        return nn.Sequential(twin)
    if not isinstance(twin, nn.Sequential):
        raise ValueError(f"{name} is a {type(module).__name__}, not a sequence of layers")
    if own := [path for path, layer in module.named_modules(prefix=name) if "forward" in vars(layer)]:
        raise ValueError(f"{own[0]} has a forward of its own")
    return twin


def _context(conv: Any) -> MaskedConv2d:
    """CompressAI's masked convolution as fastlic's."""
    if conv.kernel_size != (CONTEXT_KERNEL,) * 2 or conv.bias is None or conv.out_channels != 2 * conv.in_channels:
        raise ValueError(f"the context is not a 5x5 convolution from M to 2M channels: {conv}")
    own = MaskedConv2d(conv.in_channels, conv.out_channels).eval()
    if not torch.equal(conv.mask.cpu().bool(), own.mask.bool()):
        raise ValueError("the context's mask is not that of raster order")
    own.weight.data = (conv.weight * conv.mask).detach().float().cpu()
    own.bias = nn.Parameter(conv.bias.detach().float().cpu())
    return own


def fitted(image: Tensor, stride: int) -> Tensor:
    """An image [3, H, W] as float32 [1, 3, H, W] with sides that are multiples of ``stride``.

    It is padded up to multiples of 64, cut down to those of more: windows of attention want a quarter of them whole.
    """
    x = as_batch(image)[:1].float().cpu()
    if stride > IMAGE_STRIDE:
        height, width = (max(side // stride, 1) * stride for side in x.shape[2:])
        x = x[..., :height, :width]
    return F.pad(x, (0, -x.shape[-1] % stride, 0, -x.shape[-2] % stride), mode="replicate")


@torch.no_grad()
def calibration_latents(g_a: nn.Module, images: Sequence[Tensor], stride: int = IMAGE_STRIDE) -> list[Tensor]:
    """What the analysis transform makes of images [3, H, W], ``fitted`` to ``stride``: [1, M, h, w] each."""
    like = next(g_a.parameters())
    given = (fitted(image, stride).to(like.device, like.dtype) for image in images)
    return [g_a(x).float().cpu().contiguous() for x in given]


def check_sizes(y: Tensor, z: Tensor) -> None:
    """Raise ValueError unless z [B, N, h/4, w/4] is that of y [B, M, h, w]."""
    if tuple(y.shape[2:]) != tuple(HYPER_STRIDE * n for n in z.shape[2:]):
        raise ValueError(
            f"the latent is {tuple(y.shape[2:])}, its hyper latent {tuple(z.shape[2:])}: pad images to multiples "
            f"of {IMAGE_STRIDE} (compressai.ops.compute_padding)"
        )


@dataclass
class IntegerCoder:
    """The converted entropy path of one model, and who codes with it.

    Pickles and copies carry the conversion along; ``digest`` is that of the weights it was made from, at half
    precision, as files have it, ``snapshot`` tells every change of them.
    """

    integers: IntegerEntropyModel | VariableRateModel
    settings: Settings
    digest: int
    cache: Cache = field(default_factory=Cache)
    snapshot: Snapshot | None = None

    @classmethod
    def convert(cls, parts: Parts, g_a: nn.Module, calibration: Calibration, settings: Settings) -> IntegerCoder:
        """Convert, or read a conversion that was saved.

        Raises:
            ValueError: something has no integer form.
            ModelMismatchError: a saved conversion of other weights.
        """
        digest = parts.digest()
        if isinstance(calibration, (str, Path)):
            return cls(read(Path(calibration), parts, parts.kind), settings, digest)._watching(parts)
        images = default_calibration() if calibration is None else calibration
        try:
            return cls(parts.convert(calibration_latents(g_a, images, parts.stride)), settings, digest)._watching(parts)
        except RuntimeError as error:  # shapes that do not fit each other
            raise ValueError(f"the networks do not run on calibration images: {error}") from error

    def check(self, parts: Parts) -> None:
        """Raise ModelMismatchError if the model's weights are no longer those that were converted."""
        if self.snapshot is None and parts.digest() == self.digest:  # pickled by an older fastlic
            self._watching(parts)
        changed = "all of them" if self.snapshot is None else self.snapshot.change(parts.named)
        if changed:
            raise ModelMismatchError(
                f"the weights of the entropy model changed after fastlic.accelerate(model) ({changed}): call it again, "
                "so that they are converted anew, or fastlic.restore(model)"
            )

    def _watching(self, parts: Parts) -> Self:
        # A network that the integers do not analyse with is called as before.
        calls_h_a = not getattr(self.integers, "analyses", True)
        self.snapshot = Snapshot.of(parts.named, ("h_a", "h_a.*") if calls_h_a else ())
        return self

    @property
    def _fingerprint(self) -> bytes:
        """Of the integers, which never change; hashing them all takes milliseconds."""
        if "fingerprint" not in self.cache.values:
            self.cache.values["fingerprint"] = self.integers.fingerprint()
        known: bytes = self.cache.values["fingerprint"]
        return known

    @property
    def _mismatch(self) -> str:
        return (
            f"the string was made with other integers than this model's ({self._fingerprint.hex()}): "
            "other weights, or the same ones converted on another machine. Save the conversion once with "
            "report.save(path), and give every machine accelerate(model, calibration=path)"
        )

    @property
    def _check(self) -> int:
        return int.from_bytes(self._fingerprint[:4], "little")

    def _mismatch_at(self, rate: CodingRate | None) -> str:
        if rate is None:
            return self._mismatch
        at = f"the string was made at another rate than {rate.gain:.6g} (give decompress what compress had)"
        return f"{at}; or {self._mismatch}"

    def _check_at(self, rate: CodingRate | None) -> int:
        return self._check if rate is None else self._check ^ crc32c(struct.pack("<d??", *rate))

    def _at(self, rate: CodingRate | None) -> IntegerEntropyModel:
        if isinstance(self.integers, VariableRateModel):
            assert rate is not None
            return self.integers.at(*rate)
        return self.integers

    def device_lacks(self) -> str:
        """Why no engine on a device codes these latents, which is made here; "" if one does."""
        try:
            own = self.integers
            if isinstance(own, VariableRateModel) or own.on_engines(1, "triton") is None:
                _ = own.device_engine
        except (BackendUnavailable, ValueError) as error:
            return str(error)
        return ""

    def _given(self, latents: Tensor) -> Tensor:
        """float32 where it is coded: engines on a device take it from any."""
        own = latents.detach().float()
        return own if self.settings.backend == "triton" else own.cpu()

    def encode(self, y: Tensor, z: Tensor, rate: CodingRate | None = None) -> tuple[list[bytes], list[bytes], Tensor]:
        """y [B, M, h, w] and z [B, N, h/4, w/4], before rounding, to (strings of y, of z, y_hat float32).

        y_hat is on the CPU, or stays on the device of ``backend="triton"``.
        """
        check_sizes(y, z)
        y, z = self._given(y), self._given(z)
        if rate is not None:
            y, z = y * rate.gain, divided(z, self._hyper_step(rate))
        integers, settings = self._at(rate), self.settings
        targets = list(map(Target, z, y))
        coded = drivers.encode_many(integers, targets, settings.backend, settings.threads)
        check = self._check_at(rate)
        strings = [[native_stream.wrap(sections[i], check) for sections, _ in coded] for i in (1, 0)]
        return strings[0], strings[1], _latents([latents for _, latents in coded], y, rate)

    def decode(
        self,
        y_strings: Sequence[bytes],
        z_strings: Sequence[bytes],
        rows: int,
        columns: int,
        rate: CodingRate | None = None,
    ) -> Tensor:
        """y_hat [B, M, 4 rows, 4 columns] float32, where ``encode`` has it; rows and columns are z's."""
        config.check_pixels(rows * IMAGE_STRIDE, columns * IMAGE_STRIDE)
        height, width = HYPER_STRIDE * rows, HYPER_STRIDE * columns
        check, reason = self._check_at(rate), self._mismatch_at(rate)
        streams = [
            ([native_stream.unwrap(item, check, reason) for item in pair], height, width)
            for pair in zip(z_strings, y_strings, strict=True)
        ]
        integers, settings = self._at(rate), self.settings
        decoded = drivers.decode_many(integers, streams, settings.backend, settings.threads)
        return _latents(decoded, torch.empty(0, integers.latent_channels, height, width), rate)

    def _hyper_step(self, rate: CodingRate) -> float:
        if isinstance(self.integers, VariableRateModel) and rate.stepped:
            return self.integers.hyper_step(rate.gain)
        return 1.0


def checked_coder(module: Any, parts_of: Callable[[Any], P]) -> tuple[Any, P]:
    """The coder of an accelerated module, and the parts whose weights are still those that it was made of.

    Raises:
        ModelMismatchError: they are not.
    """
    coder, parts = state_of(module).coder, parts_of(module)
    coder.check(parts)
    return coder, parts


def _latents(decoded: Sequence[Latents], like: Tensor, rate: CodingRate | None = None) -> Tensor:
    if not decoded:
        return torch.empty(0, *like.shape[1:])
    unit = 2**MEAN_BITS if rate is None else 2**MEAN_BITS * rate.gain
    return torch.stack([divided(item.y.double(), unit).float() for item in decoded])


def divided(x: Tensor, by: float) -> Tensor:
    """x / by with the same last bits on every device."""
    # By a tensor: divided by a number, torch multiplies by its reciprocal on GPUs, which is another last bit.
    return x / x.new_full((), by)


Digests = Mapping[str, str]  # what files tell of weights, by its key


def save(
    coder: IntegerCoder | None,
    path: Path,
    transforms: Mapping[str, np.ndarray] | None = None,
    of: Digests | None = None,
) -> None:
    """Write a conversion to one safetensors file.

    Args:
        coder: None for models whose entropy path has no integers.
        transforms: arrays of integer transforms, under names that begin with STORED_TRANSFORMS.
        of: their weights, and those of transforms that stayed float, "transforms" and "refused".
    """
    own = {} if coder is None else coder.integers.to_arrays()
    arrays = {name: np.ascontiguousarray(array) for name, array in own.items()} | dict(transforms or {})
    about = {"format": _FORMAT, "weights": "none" if coder is None else f"{coder.digest:08x}"}
    about |= {key: text for key, text in (of or {}).items() if text}
    write_whole(path, serialised(arrays, about | {"digest": _digest(arrays, about)}))


_FORMAT = "fastlic-integers"
STORED_TRANSFORMS = "transforms."


def _digest(arrays: dict[str, np.ndarray], about: Mapping[str, Any]) -> str:
    """Of all that a file of a conversion holds."""
    named = {key: str(about[key]).encode() for key in ("weights", "transforms", "refused") if key in about}
    return of_arrays({**arrays, **{key: np.frombuffer(text, np.uint8) for key, text in named.items()}}).hex()


class _Read(dict[str, np.ndarray]):
    """Arrays by name, and which was asked for last."""

    last = ""

    def __getitem__(self, name: str) -> np.ndarray:
        self.last = name
        return super().__getitem__(name)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    """All that :func:`save` wrote, and what it is of.

    Raises:
        OSError: the file cannot be read.
        CodecFileError: it is damaged, or no conversion.
    """
    tensors, about = read_tensors(path)
    try:
        found = {name: tensor.numpy() for name, tensor in tensors.items()}
    except TypeError as error:  # a type that numpy does not have
        raise CodecFileError(f"{path} holds no integers: {error}") from error
    if about.get("format") != _FORMAT:
        raise CodecFileError(
            f"{path} holds no conversion that report.save wrote: its format is {about.get('format')!r}"
        )
    if about.get("digest") != _digest(found, {"weights": None, **about}):
        raise CodecFileError(f"{path} is damaged: its content is not what its digest, {about.get('digest')}, names")
    return found, about


def read(path: Path, parts: Parts, kind: Any = IntegerEntropyModel) -> Any:
    """A conversion that :func:`save` wrote, of the weights of ``parts``; ``kind`` is the class of its integers.

    Raises:
        OSError: the file cannot be read.
        CodecFileError: it is damaged, or no conversion of such a model.
        ModelMismatchError: it is the conversion of other weights.
    """
    found, about = read_arrays(path)
    weights = str(about.get("weights"))
    if weights == "none":
        raise CodecFileError(f"{path} holds no integers of the entropy path: save it from format='native'")
    if weights != f"{parts.digest():08x}":
        raise ModelMismatchError(f"{path} is the conversion of other weights ({weights}; {parts.digest():08x} here)")
    arrays = _Read({name: array for name, array in found.items() if not name.startswith(STORED_TRANSFORMS)})
    try:
        integers = kind.from_arrays(arrays)
        arrays.last = ""
        _ = integers.engine  # validates every array
        if isinstance(integers, VariableRateModel):
            for gain in integers.gains:
                integers.at(float(gain)).engine  # noqa: B018
        _check_fits(integers, parts)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError, RuntimeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else f"{error}"
        where = f"at array {arrays.last!r}: " if arrays.last else ""
        raise CodecFileError(f"{path} holds no {kind.__name__} of this model: {where}{reason}") from error
    return integers


def _check_fits(integers: Any, parts: Parts) -> None:
    variable = isinstance(integers, VariableRateModel)
    base = integers.base if variable else integers
    # The first layer of h_a reads y, the bottleneck codes z.
    latent = next((m.in_channels for m in parts.h_a.modules() if isinstance(m, nn.Conv2d)), base.latent_channels)
    sizes, own = (base.latent_channels, base.hyper_channels), (latent, parts.bottleneck.channels)
    if sizes != own:
        raise ValueError(f"latents of {sizes} channels for a model of {own}")
    family = getattr(parts, "family", None)  # of models that have the same weights
    if getattr(base, "family", None) != family:
        raise ValueError(f"integers of {base.family} for a model of {family}")
    if isinstance(base, IntegerEntropyModel) and (base.context is None) != (parts.context is None):
        raise ValueError(f"{'no' if base.context is None else 'a'} context, unlike this model")
    if variable and parts.variable is not None and len(integers.gains) != parts.variable.gains.numel():
        raise ValueError(f"{len(integers.gains)} rates for a model of {parts.variable.gains.numel()}")
