"""McQuic as integers: pixels to codes, and codes to pixels.

A level has up to six networks, whose inputs and outputs are int32 maps between them:

    down    pixels, or what the level above left over, to z; that of level 0 begins with the encoder
    head    z to the vectors that are searched; they, words and rests count units of 2^-exponent, channel by channel
    rest    z to what words are taken from; the difference is what the next level codes
    words   words to what they add on the way up
    side    what the deeper levels restored, to the same, in the same units; both are added
    up      their sum to a map twice as large; that of level 0 ends with the decoder, in pixels

Vectors and words are float32 for the search alone, which is exact to the index. A quality multiplies the last channel
of each group by its price: one operation of IEEE 754.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from fastlic.forks import cached_property
from fastlic.integers.conversion import Precision, convert
from fastlic.integers.fixed import LATENT_LIMIT
from fastlic.integers.floats import restore
from fastlic.integers.graph import Graph
from fastlic.integers.network import LATENT_BITS, PIXEL_BITS, Network
from fastlic.integers.ranges import Ranges
from fastlic.integers.shapes import ACTIVATIONS
from fastlic.integers.stages import Stage
from fastlic.integers.transforms import Gains, RatedTransforms
from fastlic.models import McQuic
from fastlic.models.mcquic.padding import crop, pad
from fastlic.models.mcquic.quantizer import lookup
from fastlic.ops.backends import triton_device
from fastlic.ops.codebook import codebook_nearest

Backend = Literal["reference", "cpp", "triton"]
Codes = list[Tensor]  # int64 [m, h, w], finest first; of a preview the deepest few. Of a batch [B, m, h, w]

# Nothing is gained by rounding weights for what calibration sees: words lose far more. What is clipped costs more than
# what is rounded: over 40 held-out tiles of 256x256 the shipped weights lost 0.005 dB in the mean and 0.04 dB at worst
# at a margin of 3, 0.006 and 0.25 dB at 1.5.
_PRECISION = Precision(learned=False, margin=3.0)
_WORD = 32767
# What heads may exceed words by, so that they are exact in float32.
_BEYOND = 1 << 8
_EXPONENTS = (-14, 40)
_PARTS = ("down", "head", "rest", "words", "side", "up")
_DECIDING = ("words.", "side.", "up.", "level.", "levels")


@dataclass(frozen=True)
class Words:
    """One level's codebooks.

    Attributes:
        words: int16 [m, k, d].
        exponents: int8 [m * d], a word's channel counts units of 2^-exponent.
        expected: int16 [m * d], which stands in at levels without codes.
    """

    words: np.ndarray
    exponents: np.ndarray
    expected: np.ndarray

    def __post_init__(self) -> None:
        if self.words.dtype != np.int16 or self.words.ndim != 3 or 0 in self.words.shape:
            raise ValueError("words are int16 [m, k, d]")
        low, high = _EXPONENTS
        fits = self.exponents.dtype == np.int8 and self.exponents.shape == (self.channels,)
        if not fits or not ((self.exponents >= low) & (self.exponents <= high)).all():
            raise ValueError(f"exponents are int8 [m * d], from {low} to {high}")
        if self.expected.dtype != np.int16 or self.expected.shape != (self.channels,):
            raise ValueError("expected words are int16 [m * d]")

    @property
    def channels(self) -> int:
        return int(self.words.shape[0] * self.words.shape[2])

    @property
    def units(self) -> np.ndarray:
        """float64 [m * d]."""
        return np.ldexp(1.0, -self.exponents.astype(np.int32))

    @cached_property
    def floats(self) -> Tensor:
        """float32 [m, k, d], exact."""
        m, _, d = self.words.shape
        return torch.from_numpy((self.words * self.units.reshape(m, 1, d)).astype(np.float32))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing that may be on a GPU, which another process may not have."""
        return {name: value for name, value in vars(self).items() if name != "_kept"}

    @cached_property
    def _kept(self) -> dict[tuple[str, torch.device], Tensor]:
        return {}

    def _on(self, device: torch.device, name: Literal["words", "units", "floats", "expected"]) -> Tensor:
        """One of these attributes there, units as float32; each is moved once."""
        if (name, device) not in self._kept:
            own = getattr(self, name)
            own = own.astype(np.float32) if name == "units" else own
            self._kept[name, device] = torch.as_tensor(own, device=device)
        return self._kept[name, device]

    def vectors(self, heads: Tensor, price: np.float32 | None = None) -> Tensor:
        """int32 [..., m * d, h, w] -> what is searched, float32 [..., h, w, m, d] on the same device.

        Args:
            price: factor on the last channel of each group.
        """
        m, _, d = self.words.shape
        # Heads beyond 2^24, which calibration never saw, are rounded as IEEE 754 says.
        vectors = (heads.movedim(-3, -1).float() * self._on(heads.device, "units")).unflatten(-1, (m, d))
        if price is not None:
            vectors[..., d - 1] *= float(price)
        return vectors

    def nearest(self, heads: Tensor, price: np.float32 | None, threads: int, backend: Backend) -> Tensor:
        """int32 [..., m * d, h, w] -> the nearest words' indexes, int64 [..., m, h, w], on the same device.

        Args:
            price: as of ``vectors``.
            threads, backend: as of ``codebook_nearest``.
        """
        vectors = self.vectors(heads, price)
        words = self._on(heads.device, "floats")
        codes = codebook_nearest(vectors.flatten(0, -3), words, backend=backend, threads=threads)
        return codes.view(vectors.shape[:-1]).movedim(-1, -3)

    def of(self, codes: Tensor) -> Tensor:
        """int64 [..., m, h, w] -> words int32 [..., m * d, h, w] on the same device."""
        words = lookup(self._on(codes.device, "words"), codes if codes.ndim == 4 else codes[None]).int()
        return words if codes.ndim == 4 else words[0]

    def expectation(self, like: Tensor) -> Tensor:
        """What stands in for words [..., m * d, h, w] of that many positions, on that device."""
        return self._on(like.device, "expected").int()[:, None, None].expand(like.shape)


@dataclass(frozen=True)
class VqTransforms(RatedTransforms):
    """See the module.

    Attributes:
        networks: by part and level, such as ``down.0``; the deepest level has neither rest nor side.
        words: of each level, the finest first.
        prices: float32 [qualities, 1], factors on the price of a bit; None for one rate.

    Raises:
        ValueError: networks that do not fit each other.
    """

    networks: Mapping[str, Network]
    words: tuple[Words, ...]
    prices: Gains | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.words) <= 8:
            raise ValueError(f"1 to 8 levels are expected, got {len(self.words)}")
        if sorted(self.networks) != sorted(_names(len(self.words))):
            raise ValueError(f"networks of {len(self.words)} levels are expected, got {', '.join(self.networks)}")
        channels = {own.channels for own in self.words}
        if len(channels) > 1:
            raise ValueError(f"all levels have as many channels, got {sorted(channels)}")
        c = channels.pop()
        for name, network in self.networks.items():
            part, level = name.split(".")
            finest = level == "0"
            pixels_in, pixels_out = finest and part == "down", finest and part == "up"
            sizes = {"down": -4 if finest else -1, "up": 4 if finest else 1}.get(part, 0)
            first, last = network.shapes[0], network.shapes[-1]
            steps = last.sizes
            if sum(steps) != sizes or len(set(steps)) > 1:
                raise ValueError(f"{name} changes sides by 2^{sizes}, not as {list(steps)}")
            if (first.channels, last.channels) != (3 if pixels_in else c, 3 if pixels_out else c):
                raise ValueError(f"{name} is from {first.channels} to {last.channels} channels, of {c}")
            if (network.entry is None) != pixels_in:
                raise ValueError(f"{name} has an entry unless it reads pixels")
            if pixels_out and (network.exit is None or last.bits != PIXEL_BITS or network.exit.negative.any()):
                raise ValueError("the last layer gives pixels")
            if last.bits > (LATENT_BITS if part in ("head", "rest") else ACTIVATIONS):
                raise ValueError(f"{name} gives {last.bits} bits")
        if self.prices is not None and self.prices.factors.shape[1] != 1:
            raise ValueError("prices are one per quality")

    @property
    def levels(self) -> int:
        return len(self.words)

    @property
    def parts(self) -> tuple[Mapping[str, Network], Gains | None]:
        return self.networks, self.prices

    def analyse(
        self, pixels: Tensor, quality: float | None = None, *, threads: int = 1, backend: Backend = "cpp"
    ) -> Codes:
        """Pixels uint8 [3, H, W] of any size -> codes of each level, the finest first.

        Other arguments, batches and errors are those of ``IntegerTransforms.analyse``.
        """
        self._check_quality(quality)
        return self._codes(0, self._padded(pixels, backend), quality, threads, backend)

    def finest(self, pixels: Tensor, quality: float | None = None, *, threads: int = 1) -> tuple[np.ndarray, Tensor]:
        """Pixels, as of ``analyse``, -> the vectors that level 0 is searched with, float32 [h, w, m, d], and what its
        words are taken from, int32 [m * d, h, w]; of a single level no such thing, [0]."""
        self._check_quality(quality)
        z = self._run("down.0", self._padded(pixels, "cpp"), threads, "cpp")
        vectors = self.words[0].vectors(self._run("head.0", z, threads, "cpp"), self._price(quality)).numpy()
        rest = self._run("rest.0", z, threads, "cpp") if self.levels > 1 else torch.zeros(0, dtype=torch.int32)
        return vectors, rest

    def below(self, finest: Tensor, rest: Tensor, quality: float | None = None, *, threads: int = 1) -> Codes:
        """Codes of the levels below level 0, from its own, int64 [m, h, w], and the second of what ``finest`` gave."""
        self._check_quality(quality)
        if self.levels == 1:
            return []
        return self._codes(1, self._left(rest, 0, finest), quality, threads, "cpp")

    def _padded(self, pixels: Tensor, backend: Backend) -> Tensor:
        batched = self._together(backend)
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 + batched or pixels.shape[-3] != 3 or 0 in pixels.shape:
            sizes = "[B, 3, H, W]" if batched else "[3, H, W]"
            raise ValueError(f"expected uint8 {sizes}, got {pixels.dtype} {list(pixels.shape)}")
        stride = 8 << self.levels
        return pad(pixels.to(_device(backend)), stride, 2 * stride)

    def _price(self, quality: float | None) -> np.float32 | None:
        return None if self.prices is None or quality is None else self.prices.at(quality).astype(np.float32)[0]

    def _left(self, rest: Tensor, level: int, codes: Tensor) -> Tensor:
        return (rest - self.words[level].of(codes)).clamp_(-LATENT_LIMIT, LATENT_LIMIT)

    def _codes(self, first: int, x: Tensor, quality: float | None, threads: int, backend: Backend) -> Codes:
        """Of levels from ``first`` on; x: what the first of them codes."""
        price, codes = self._price(quality), []
        for level in range(first, self.levels):
            z = self._run(f"down.{level}", x, threads, backend)
            heads = self._run(f"head.{level}", z, threads, backend)
            codes.append(self.words[level].nearest(heads, price, threads, backend))
            if level + 1 < self.levels:
                x = self._left(self._run(f"rest.{level}", z, threads, backend), level, codes[-1])
        return codes

    def synthesise(
        self, codes: Sequence[Tensor], size: tuple[int, int], *, threads: int = 1, backend: Backend = "cpp"
    ) -> Tensor:
        """Codes int64 [m, h, w] of all levels, or of the deepest few -> pixels uint8 [3, H, W].

        Args:
            size: height and width of the image, which was padded on all sides.
            threads, backend: as for ``analyse``, batches too.
        """
        missing, x = self.levels - len(codes), None
        batched = self._together(backend)
        for level in reversed(range(self.levels)):
            own = self.words[level]
            if level >= missing:
                of_level = codes[level - missing]
                if of_level.ndim != 3 + batched:
                    sizes = "[B, m, h, w]" if batched else "[m, h, w]"
                    raise ValueError(f"expected codes {sizes}, got {list(of_level.shape)}")
                words = own.of(of_level.to(_device(backend)))
            else:
                assert x is not None
                words = own.expectation(x)
            total = self._run(f"words.{level}", words, threads, backend)
            if x is not None:
                total = total + self._run(f"side.{level}", x, threads, backend)
            x = self._run(f"up.{level}", total, threads, backend)
        assert x is not None
        return crop(x, *size).to(torch.uint8).contiguous()

    def _run(self, name: str, x: Tensor, threads: int, backend: Backend) -> Tensor:
        if backend == "reference":
            return self.networks[name](x.long()).int()
        return self._engines.run(name, x, threads, way=backend)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Named arrays for storage; ``from_arrays`` reads them back."""
        arrays = {"levels": np.array([self.levels], np.uint8)}
        for name, network in self.networks.items():
            arrays |= network.to_arrays(name)
        for level, own in enumerate(self.words):
            parts = {"words": own.words, "exponents": own.exponents, "expected": own.expected}
            arrays |= {f"level.{level}.{name}": array for name, array in parts.items()}
        if self.prices is not None:
            arrays["prices"] = self.prices.factors.view(np.int32)
        return arrays

    def deciding(self) -> dict[str, np.ndarray]:
        """What pixels depend on: words, and the networks on the way up but for their units."""
        arrays = self.to_arrays().items()
        return {name: array for name, array in arrays if name.startswith(_DECIDING) and not name.endswith(".units")}

    @torch.no_grad()
    def restore(self, model: McQuic) -> None:
        """Set the float networks and codebooks of a model, in place, to what these integers stand for.

        Raises:
            ValueError: networks without units, or of another model.
        """
        self.check_model(model)
        graphs = _graphs(model)
        for name, network in self.networks.items():
            restore(graphs[name], name, network)
        _unfold(model, graphs)
        for book, own in zip(model._quantizer.codebooks, self.words, strict=True):
            book._codebook.copy_(own.floats)

    def check_model(self, model: McQuic) -> None:
        """Raise ValueError unless these are of a model of that configuration."""
        d = model.channel // model.m
        expected = [(model.m, k, d) for k in model.k]
        if [own.words.shape for own in self.words] != expected:
            raise ValueError(f"words of {[own.words.shape for own in self.words]} for a model of {expected}")
        prices = [] if self.prices is None else self.prices.factors[:, 0].tolist()
        if prices != model.prices:
            raise ValueError(f"prices of {prices} for a model of {model.prices}")

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> VqTransforms:
        """Read what ``to_arrays`` wrote.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays that make no transforms.
        """
        levels = int(arrays["levels"][0])
        if not 1 <= levels <= 8:
            raise ValueError(f"1 to 8 levels are expected, got {levels}")
        networks = {name: Network.from_arrays(arrays, name) for name in _names(levels)}
        parts = ("words", "exponents", "expected")
        words = tuple(Words(*(arrays[f"level.{level}.{part}"] for part in parts)) for level in range(levels))
        prices = Gains(arrays["prices"].view(np.float32)) if "prices" in arrays else None
        return cls(networks, words, prices)


def _device(backend: Backend) -> torch.device:
    return triton_device() if backend == "triton" else torch.device("cpu")


def _names(levels: int) -> list[str]:
    deepest = f".{levels - 1}"
    names = [f"{part}.{level}" for level in range(levels) for part in _PARTS]
    return [name for name in names if not (name.startswith(("rest", "side")) and name.endswith(deepest))]


# ---- from floats


def _graphs(model: McQuic) -> dict[str, Graph]:
    """By name; from and to pixels in [0, 1] in place of McQuic's [-1, 1]."""
    modules: dict[str, Any] = {}
    c = model.channel
    for level, (down, up) in enumerate(zip(model._quantizer.encoders, model._quantizer.decoders, strict=True)):
        before, behind = ([model._encoder], [model._decoder]) if level == 0 else ([], [])
        modules[f"down.{level}"] = nn.Sequential(*before, down._latentStageEncoder)
        modules[f"head.{level}"] = down._quantizationHead
        modules[f"rest.{level}"] = down._latentHead
        modules[f"words.{level}"] = up._dequantizationHead
        modules[f"side.{level}"] = up._sideHead
        modules[f"up.{level}"] = nn.Sequential(up._restoreHead, *behind)
    graphs = {name: Graph() for name, module in modules.items() if module is not None}
    for name, graph in graphs.items():
        # McQuic's blocks begin with an activation, which wants units of its own, not those of words and rests.
        x = 0 if name == "down.0" else graph.add(Stage(name, torch.eye(c)[:, :, None, None], torch.zeros(c)), 0)
        graph.trace(modules[name], graph.hold(x), name)
    graphs["down.0"], graphs["up.0"] = graphs["down.0"].from_pixels(), graphs["up.0"].to_pixels()
    return graphs


def _first(graphs: Mapping[str, Graph]) -> Stage:
    stage = graphs["down.0"].operations[0]
    assert isinstance(stage, Stage)
    return stage


def _last(graphs: Mapping[str, Graph]) -> Stage:
    stage = graphs["up.0"].operations[-1]
    assert isinstance(stage, Stage)
    return stage


def _unfold(model: McQuic, graphs: Mapping[str, Graph]) -> None:
    """Hand to the model's first and last layer what their stages from and to [0, 1] have become."""
    first: Any = model._encoder[0]
    last: Any = model._decoder[-1]
    first.weight.copy_(_first(graphs).weight / 2)
    first.bias.copy_(_first(graphs).bias.double() + first.weight.double().sum((1, 2, 3)))
    last[0].weight.copy_(_last(graphs).weight * 2)
    last[0].bias.copy_(_last(graphs).bias * 2 - 1)


@torch.no_grad()
def convert_vq(
    model: McQuic, images: Sequence[Tensor], shares: Sequence[np.ndarray], precision: Precision | None = None
) -> VqTransforms:
    """The integers of a trained model.

    Calibration runs in float64, and ranges are rounded up, so that every machine is all but sure to find the same.

    Args:
        model: float32, on the CPU.
        images: for calibration, [3, H, W] in [0, 1]; they are seen at the first and the last quality.
        shares: float [m, k] per level, how often words are used: expected words are their means.

    Raises:
        ValueError: a module that has no integer form, or a sum that could leave int32.
    """
    precision = precision or _PRECISION
    if not images:
        raise ValueError("calibration needs at least one image")
    graphs, books = _graphs(model), [book._codebook.detach() for book in model._quantizer.codebooks]
    for graph in graphs.values():
        graph.double()
    calibration = _Calibration(model, graphs, {name: Ranges(precision.margin) for name in graphs}, precision.learned)
    # Photos show few of the words, and rarely the largest: an image of words drawn at random has details everywhere.
    drawn = calibration.up(_drawn(books, [image.shape[1:] for image in images]))
    for image in (*(image.double() for image in images), drawn.clamp(0, 1)):
        for words_seen in calibration.down(image):
            calibration.up(words_seen)
    ranges = calibration.ranges
    for seen_by in ranges.values():
        seen_by.round_up()
    words = []
    for level, (book, share) in enumerate(zip(books, shares, strict=True)):
        ranges[f"words.{level}"].see("0", book.transpose(1, 2).flatten(0, 1)[None, :, None])  # any word may come
        ends = [name for name in (f"head.{level}", f"rest.{level}") if name in graphs]
        seen = np.max([ranges[name].largest(_end(graphs[name])) for name in ends], axis=0)
        words.append(_words(book.double().numpy(), share, seen * precision.margin))

    made: dict[str, Network] = {}

    def make(name: str, before: str | np.ndarray | None, outputs: np.ndarray | None = None) -> None:
        """``before``: the network it reads, or the units of its inputs; None: pixels."""
        units = made[before].units[-1].astype(np.float64) if isinstance(before, str) else before
        made[name] = convert(
            graphs[name],
            ranges[name],
            precision,
            finest=units,
            pixels_out=name == "up.0",
            inputs=1.0 if units is None else units,
            outputs=outputs,
        )

    for level, own in enumerate(words):
        make(f"down.{level}", words[level - 1].units if level else None)
        make(f"head.{level}", f"down.{level}", own.units)
        if level + 1 < len(words):
            make(f"rest.{level}", f"down.{level}", own.units)
    for level, own in reversed(list(enumerate(words))):
        joined = [name for name in (f"words.{level}", f"side.{level}") if name in graphs]
        units = np.max([ranges[name].scale(_end(graphs[name]), bits=ACTIVATIONS) for name in joined], axis=0)
        make(f"words.{level}", own.units, units)
        if len(joined) > 1:
            make(f"side.{level}", f"up.{level + 1}", units)
        make(f"up.{level}", units)
    priced = Gains(np.array(model.prices, np.float32)[:, None]) if model.prices else None
    return VqTransforms(made, tuple(words), priced)


def _end(graph: Graph) -> str:
    """What ranges call its last value."""
    return str(len(graph.operations))


def _words(book: np.ndarray, shares: np.ndarray, reach: np.ndarray) -> Words:
    """float64 [m, k, d] and shares [m, k] as integers, whose units reach far enough for heads and rests [m * d]."""
    most = np.maximum(np.abs(book).max(1).reshape(-1), np.maximum(reach / _BEYOND, 1e-9))
    exponents = np.floor(np.log2(_WORD / most)).clip(*_EXPONENTS).astype(np.int8)
    m, _, d = book.shape
    scaled = np.ldexp(book, exponents.astype(np.int32).reshape(m, 1, d))
    shares = shares / shares.sum(1, keepdims=True)
    expected = np.einsum("mk,mkd->md", shares, scaled).reshape(-1)
    whole, expected = (np.rint(a).clip(-_WORD, _WORD).astype(np.int16) for a in (scaled, expected))
    return Words(whole, exponents, expected)


def _drawn(books: Sequence[Tensor], sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Words of each level for the largest of these images, any of a book as likely as another; float64 [1, C, h, w]."""
    draw, stride = np.random.default_rng(0), 8 << len(books)
    rows, columns = (max(2, *(-(-size[axis] // stride) for size in sizes)) for axis in (0, 1))
    words = []
    for level, book in enumerate(books):
        up = len(books) - 1 - level
        codes = draw.integers(book.shape[1], size=(1, book.shape[0], rows << up, columns << up))
        words.append(lookup(book.double(), torch.from_numpy(codes)).contiguous())
    return words


@dataclass(frozen=True)
class _Calibration:
    """Floats on their way down and up, seen by ranges.

    Attributes:
        learn: whether these remember moments.
    """

    model: McQuic
    graphs: Mapping[str, Graph]
    ranges: Mapping[str, Ranges]
    learn: bool

    def _run(self, name: str, x: Tensor) -> Tensor:
        return self.graphs[name].run(x, self.ranges[name], self.learn)

    def down(self, image: Tensor) -> list[list[Tensor]]:
        """Words of each level [1, C, h, w] of an image float64 [3, H, W] in [0, 1], at the first and the last price."""
        model = self.model
        prices = [model.prices[0], model.prices[-1]] if model.prices else [1.0]
        xs = [pad(image[None], model.stride, model.least_side)]
        words: list[list[Tensor]] = [[] for _ in prices]
        for level, book in enumerate(model._quantizer.codebooks):
            zs = [self._run(f"down.{level}", x) for x in xs]
            heads = [self._run(f"head.{level}", z) for z in zs]
            rests = [self._run(f"rest.{level}", z) for z in zs] if level + 1 < model.levels else []
            if level == 0:  # up to here all prices see the same
                heads, rests = heads * len(prices), rests * len(prices)
            d = book._codebook.shape[2]
            for own, head, price in zip(words, heads, prices, strict=True):
                priced = head.clone()
                priced[:, d - 1 :: d] *= price
                own.append(lookup(book._codebook.double(), book.nearest(priced)).contiguous())
            xs = [rest - own[-1] for rest, own in zip(rests, words, strict=False)]
        return words

    def up(self, words: Sequence[Tensor]) -> Tensor:
        """The image [3, H, W] of words of each level."""
        restored: Tensor | None = None
        for level in reversed(range(len(words))):
            total = self._run(f"words.{level}", words[level])
            if restored is not None:
                total = total + self._run(f"side.{level}", restored)
            restored = self._run(f"up.{level}", total)
        assert restored is not None
        return restored[0]
