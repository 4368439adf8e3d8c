"""What is fuzzed above the native core: whole files and strings, each with seeds, a mutator and what must hold.

A target ends in a result or in FastlicError or ValueError; anything else is a finding, and so is another verdict on
another instruction set, thread count or backend, or memory that jumps by more than ``MOST_MEMORY``.
"""

from __future__ import annotations

import functools
import io
import os
import random
import resource
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutate  # the neighbour, mutate.py
import numpy as np
import torch
from mutate import Mutator
from torch import Tensor

import fastlic
import fastlic.config
from fastlic import Codec, _native
from fastlic.codec import mcq, storage
from fastlic.errors import FastlicError

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
MOST_PIXELS = 1 << 14  # what an input may claim
MOST_MEMORY = 1 << 30
MOST_SECONDS = 30.0


class Finding(Exception):
    """Something that must not happen and raised no error of its own."""


@dataclass(frozen=True)
class Target:
    seeds: Callable[[], list[bytes]]
    mutate: Mutator
    run: Callable[[bytes], object]  # raises what the library raises, and Finding

    def execute(self, data: bytes) -> str:
        """One input: its verdict in a word. Raises what is a finding."""
        memory, start = _peak(), time.monotonic()
        try:
            with _small_images():
                self.run(data)
            verdict = "accepted"
        except (FastlicError, ValueError) as error:
            # Messages without their numbers: kinds of refusal, of which new ones are worth keeping.
            verdict = type(error).__name__ + ": " + "".join("0" if c.isdigit() else c for c in str(error))[:80]
        if (grown := _peak() - memory) > MOST_MEMORY:
            raise Finding(f"{grown >> 20} MiB were taken")
        if (took := time.monotonic() - start) > MOST_SECONDS:
            raise Finding(f"it took {took:.0f} s")
        return verdict


@contextmanager
def _small_images() -> Iterator[None]:
    """What inputs claim stays quick."""
    name = fastlic.config.MAX_PIXELS_VARIABLE
    before = os.environ.get(name)
    os.environ[name] = str(MOST_PIXELS)
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


# ---- models


def _image(height: int, width: int) -> Tensor:
    rows, columns = torch.linspace(0, 6, height), torch.linspace(0, 9, width)
    waves = torch.stack([torch.sin(rows)[:, None] * torch.cos(columns * (1 + c)) for c in range(3)])
    return (waves * 0.4 + 0.5).clamp(0, 1)


def _hyperprior(family: str, qualities: int) -> Codec:
    from fastlic.models import FAMILIES

    torch.manual_seed(1)
    model = FAMILIES[family](8, 12, (8, 12, 16), qualities=qualities).eval()
    with torch.no_grad():  # latents that are not all zero
        for layer, gain in ((model.g_a[6], 30.0), (model.h_a[-1], 20.0)):
            layer.weight *= gain
    return Codec(model, calibration=[_image(64, 96)])


def _narrow(family: str) -> Codec:
    """For codec files: as few numbers as a model of the family can have."""
    from fastlic.models import FAMILIES
    from fastlic.models.mlic import Sizes

    torch.manual_seed(4)
    if not family.startswith("mlic"):
        return Codec(FAMILIES[family](3, 4, (2, 3, 4), qualities=2).eval(), calibration=[_image(32, 64)])
    sizes = Sizes((5,), (4, 4, 3), (4, 3), (4, 4), (6, 5), (5,))
    early = family.endswith("early")
    cls: Any = FAMILIES[family.removesuffix("-early")]
    model = cls(3, 8, (4, 4, 4), qualities=2, slices=2, sizes=sizes, **({"early": True} if early else {})).eval()
    return Codec(model, calibration=[_image(32, 64)])


def _mcquic(context: bool) -> Codec:
    from fastlic.models import McQuic
    from fastlic.models.mcquic.context import CodeContext

    torch.manual_seed(2)
    model = McQuic(4, 2, [12, 6]).eval()
    image = _image(64, 96)
    return Codec(model, calibration=[image], context=CodeContext(2, 12, 6, 16).eval() if context else None)


@functools.cache
def codec(name: str) -> Codec:
    """A small codec: of tests/golden, or with random weights."""
    if name in ("jahp", "mlic", "mlicp", "mlicpp", "early"):
        return Codec.load(GOLDEN / f"tiny_{name}.safetensors")
    if name.startswith("narrow-"):
        return _narrow(name.removeprefix("narrow-"))
    if name.startswith("mcquic"):
        return _mcquic(context=name.endswith("context"))
    family, _, rate = name.partition("_")
    return _hyperprior(family, 0 if rate == "fixed" else 8)


NARROW_MLIC = ("narrow-mlic", "narrow-mlic+", "narrow-mlic++", "narrow-mlic++-early")
CODECS = ("jahp", "jahp_fixed", "mean-scale", "scale", "mlic", "mlicp", "mlicpp", "early", "mcquic", "mcquic-context")


# ---- whole .flic files


@contextmanager
def _setting(isa: str | None = None, threads: int | None = None) -> Iterator[None]:
    before = _native.get_isa(), torch.get_num_threads()
    try:
        if isa is not None:
            _native.set_isa(isa)
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        _native.set_isa(before[0])
        torch.set_num_threads(before[1])


def _latents(own: Codec, data: bytes, backend: Any) -> Any:
    """Arrays of latents, or the class of the error."""
    try:
        (((decoded,), (read,)),) = own._decode_many([data], backend)
    except (FastlicError, ValueError) as error:
        return type(error)
    named = own._coder.named(decoded)
    return (read.header.height, read.header.width), {name: value.numpy() for name, value in named.items()}


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, type) or isinstance(b, type):
        return a is b
    return a[0] == b[0] and a[1].keys() == b[1].keys() and all(np.array_equal(a[1][k], b[1][k]) for k in a[1])


def same_verdict(decode: Callable[[Any], Any], data: bytes) -> Any:
    """``decode(backend)`` everywhere that this input's checksum chooses: it must be the same."""
    first = decode("auto")
    chosen = zlib.crc32(data)
    settings: list[tuple[str | None, int | None, str]] = []
    if chosen % 4 == 0:
        settings += [(isa, None, "cpp") for isa in _native.supported_isas()]
    if chosen % 4 == 1:
        settings += [(None, threads, "cpp") for threads in (1, 2, 4)]
    if chosen % 16 == 2:
        settings.append((None, None, "reference"))
    for isa, threads, backend in settings:
        with _setting(isa, threads):
            if not _equal(first, decode(backend)):
                raise Finding(f"another verdict on isa={isa}, threads={threads}, backend={backend}")
    return first


def _flic_run(name: str) -> Callable[[bytes], object]:
    def run(data: bytes) -> object:
        own = codec(name)
        verdict = same_verdict(lambda backend: _latents(own, data, backend), data)
        if isinstance(verdict, type) or zlib.crc32(data) % 3 == 0:
            image = own.decompress(data)  # raises again what was raised before, with its words
            if isinstance(verdict, type):
                raise Finding("latents were refused and pixels were not")
            if tuple(image.shape[1:]) != verdict[0] or not bool(torch.isfinite(image).all()):
                raise Finding(f"the image is {tuple(image.shape)}, or not all of it is finite")
        if own.previews and zlib.crc32(data) % 5 == 0:
            own.decompress(data, **{next(iter(own.previews)): 1})
        return None

    return run


def _flic_seeds(name: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        own = codec(name)
        made = []
        for height, width in ((40, 56), (16, 16), (1, 1), (70, 33)):
            for quality in (1.0, 4.5) if own.qualities else (None,):
                data = own.compress(_image(height, width), quality)
                assert isinstance(data, bytes)
                made.append(data)
        for channels in (1, 2, 3, 4):  # of version 3
            metadata = fastlic.Metadata(
                b"profile" * (channels == 3), b"II*\0" * (channels > 2), b"<x/>" * (channels > 1)
            )
            image = torch.cat([_image(20, 24)] * 2)[:channels]
            data = own.compress(image, 1.0 if own.qualities else None, metadata=metadata)
            assert isinstance(data, bytes) and data[4] == 3
            made.append(data)
        if name == "jahp":  # of version 1
            made += [(GOLDEN / f"{stream}.flic").read_bytes() for stream in ("chelsea_q1", "one_pixel_q8")]
        return made

    return seeds


# ---- codec files, conversions, checkpoints

_SPREADS = (("int8", 6), ("int16", 300))


@functools.lru_cache(maxsize=1)
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="fastlic-fuzz-"))


def _file(data: bytes, suffix: str) -> Path:
    """A file of these bytes; never one that is mapped from before."""
    path = _scratch() / f"input{suffix}"
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
    return path


def _use(own: Codec) -> None:
    """What a file that was accepted must be able to do."""
    data = own.compress(_image(16, 24), 1.0 if own.qualities else None)
    assert isinstance(data, bytes)
    own.decompress(data)


def _codec_run(data: bytes) -> None:
    own = Codec.load(_file(data, ".safetensors"))
    if zlib.crc32(data) % 16 == 0:
        _use(own)


def _codec_seeds(*names: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        made = []
        for name in names:
            for options in ({}, {"half": True, "training": False}, {"packed": True}):
                path = _scratch() / "seed.safetensors"
                codec(name).save(path, **options)
                made.append(path.read_bytes())
        return made

    return seeds


def _stored_seeds() -> list[bytes]:
    """Files with transforms and predecessors, of more than any family reads."""
    rng = np.random.default_rng(5)
    weights = {kind: np.rint(rng.laplace(size=(40, 32)) * spread).astype(kind) for kind, spread in _SPREADS}
    transforms = weights | {"bias": np.arange(5, dtype=np.int32), "step": np.zeros(3, np.uint8)}
    path, made = _scratch() / "seed.safetensors", []
    for packed in (False, True):
        stored = storage.StoredCodec("n", "jahp", {"N": 3}, {}, weights, transforms, (bytes(8), b"12345678"))
        storage.write(path, stored, half=True, packed=packed)
        made.append(path.read_bytes())
    return made


def _stored_run(data: bytes) -> None:
    path = _file(data, ".safetensors")
    stored = storage.read(path)
    storage.write(path, stored, half=True, packed=True)
    again = storage.read(path)
    for one, other in ((stored.integers, again.integers), (stored.transforms, again.transforms)):
        same = one.keys() == other.keys() and all(
            value.dtype == other[name].dtype and np.array_equal(value, other[name]) for name, value in one.items()
        )
        if not same or stored.reads != again.reads:
            raise Finding("what was read is not what was written of it")


def _checkpoint_seeds() -> list[bytes]:
    from fastlic.models.mcquic import save_published

    path = _scratch() / "seed.mcquic"
    own = codec("mcquic").model
    assert own is not None
    save_published(own, path)  # type: ignore[arg-type]
    state = io.BytesIO()
    torch.save({"trainer": {"_model": {f"module._compressor.{k}": v for k, v in own.state_dict().items()}}}, state)
    return [path.read_bytes(), state.getvalue()]


def _checkpoint_run(data: bytes) -> None:
    from fastlic.models.mcquic import load_published

    model = load_published(_file(data, ".mcquic"))
    if zlib.crc32(data) % 8 == 0:
        _use(Codec(model, calibration=[_image(16, 24)]))


_DIGEST = 0x1234ABCD


def _integer_coder(integers: Any) -> Any:
    from fastlic.integrations.compressai.integers import IntegerCoder
    from fastlic.integrations.compressai.settings import Settings

    return IntegerCoder(integers, Settings("native"), _DIGEST)


def _conversion_seeds() -> list[bytes]:
    from fastlic.integrations.compressai.integers import save

    made = []
    for name in ("jahp_fixed", "mean-scale", "scale"):
        path = _scratch() / "seed.conversion"
        save(_integer_coder(codec(name).entropy), path)
        made.append(path.read_bytes())
    return made


class _Parts:
    """What a conversion is held to: sizes of the model that it is of."""

    variable = None

    def __init__(self, contextual: bool) -> None:
        model: Any = codec("jahp_fixed").model
        self.h_a, self.bottleneck = model.h_a, model.entropy_bottleneck
        self.context = object() if contextual else None

    def digest(self) -> int:
        return _DIGEST


def _conversion_run(data: bytes) -> None:
    from fastlic.integrations.compressai.integers import read

    parts: Any = _Parts(b'"context.weight"' in data)
    coder = _integer_coder(read(_file(data, ".conversion"), parts))
    model = coder.integers
    z, y = torch.ones(1, model.hyper_channels, 1, 1), torch.ones(1, model.latent_channels, 4, 4)
    y_strings, z_strings, latents = coder.encode(y, z)
    if not torch.equal(coder.decode(y_strings, z_strings, 1, 1), latents):
        raise Finding("a conversion that was accepted does not decode what it encoded")


# ---- strings of CompressAI's models, .mcq


@functools.lru_cache(maxsize=1)
def _own_strings_coder() -> Any:
    return _integer_coder(codec("jahp_fixed").entropy)


def _shape(part: bytes) -> tuple[int, ...]:
    from fastlic.integrations.compressai.claims import whole_numbers

    return whole_numbers(np.frombuffer(part[:8].ljust(8, b"\0"), "<i4").tolist())


def _strings_seeds() -> list[bytes]:
    coder = _own_strings_coder()
    made = []
    for rows, columns in ((1, 1), (1, 2), (2, 1)):
        torch.manual_seed(rows + 2 * columns)
        z = torch.randn(1, coder.integers.hyper_channels, rows, columns) * 3
        y = torch.randn(1, coder.integers.latent_channels, 4 * rows, 4 * columns) * 4
        (y_string,), (z_string,), _ = coder.encode(y, z)
        made.append(mutate.join([y_string, z_string, np.array([rows, columns], "<i4").tobytes()]))
    return made


def _three(data: bytes) -> list[bytes]:
    return [*mutate.split(data), b"", b"", b""][:3]


def _strings_run(data: bytes) -> None:
    import dataclasses

    y, z, shape = _three(data)

    def decode(backend: Any) -> Any:
        coder = dataclasses.replace(_own_strings_coder())
        coder.settings = dataclasses.replace(coder.settings, backend=backend)
        try:
            rows, columns = _shape(shape)
            return (0, 0), {"y": coder.decode([y], [z], rows, columns).numpy()}
        except (FastlicError, ValueError) as error:
            return type(error)

    if isinstance(same_verdict(decode, data), type):
        rows, columns = _shape(shape)
        _own_strings_coder().decode([y], [z], rows, columns)


@functools.lru_cache(maxsize=1)
def _official_model() -> Any:
    from fastlic.codec import mlicpp_official
    from fastlic.lifelike.models import small_mlic
    from fastlic.models import MLICPlusPlus

    model = small_mlic(MLICPlusPlus, qualities=0)
    mlicpp_official.update(model)
    return model


def _official_seeds() -> list[bytes]:
    from fastlic.codec import mlicpp_official

    made = []
    for height, width in ((64, 64), (60, 70)):
        out = mlicpp_official.compress(_official_model(), _image(height, width)[None])
        made.append(mlicpp_official.write_file(out, height, width))
    return made


def _official_mutate(data: bytes, draw: random.Random) -> bytes:
    """The official code's file: one of its strings changed, or any byte; lengths fit."""
    from fastlic.codec import mlicpp_official

    try:
        out, height, width = mlicpp_official.read_file(data)
    except FastlicError:
        return mutate.of_bytes(data, draw)
    kind = draw.randrange(8)
    if kind == 0:
        return mutate.of_bytes(data, draw)
    if kind == 1:
        height, width = (max(1, n + draw.randrange(-70, 70)) for n in (height, width))
        out["shape"] = (-(-height // 64), -(-width // 64))
    else:
        part = out["strings"][draw.randrange(2)]
        part[0] = mutate.of_bytes(part[0], draw)
    return mlicpp_official.write_file(out, height, width)


def _official_run(data: bytes) -> None:
    from fastlic.codec import mlicpp_official

    out, _, _ = mlicpp_official.read_file(data)
    mlicpp_official.decompress(_official_model(), out["strings"], out["shape"])


@functools.cache
def _accelerated(format: str, name: str) -> Any:
    """A small model of CompressAI itself, where that is installed."""
    import compressai.models as theirs

    from fastlic import accelerate

    torch.manual_seed(3)
    model = getattr(theirs, name)(8, 12).eval()
    model.update(force=True)
    accelerate(model, format, calibration=[_image(64, 128)] if format == "native" else None)
    return model


_THEIRS = ("FactorizedPrior", "ScaleHyperprior", "MeanScaleHyperprior")


def _compressai_seeds() -> list[bytes]:
    made = []
    for number, (format, name) in enumerate((f, n) for f in ("native", "compressai") for n in _THEIRS):
        out = _accelerated(format, name).compress(_image(64, 128)[None])
        strings = [part[0] for part in out["strings"]]
        y, z = strings if len(strings) == 2 else (strings[0], b"")
        made.append(mutate.join([y, z, np.array([*out["shape"]], "<i4").tobytes() + bytes([number])]))
    return made


def _compressai_run(data: bytes) -> None:
    y, z, shape = _three(data)
    number = (shape[8] if len(shape) > 8 else 0) % 6
    name = _THEIRS[number % 3]
    model = _accelerated("native" if number < 3 else "compressai", name)
    strings = [[y]] if name == "FactorizedPrior" else [[y], [z]]
    model.decompress(strings, tuple(np.frombuffer(shape[:8].ljust(8, b"\0"), "<i4").tolist()))


@functools.lru_cache(maxsize=1)
def _mcq_coder() -> mcq.McqCoder:
    return mcq.coder_of(codec("mcquic"))


def _mcq_seeds() -> list[bytes]:
    return [_mcq_coder().compress(_image(height, width)) for height, width in ((40, 56), (16, 16), (1, 1))]


def _mcq_run(data: bytes) -> None:
    image = _mcq_coder().decompress(data)
    if not bool(torch.isfinite(image).all()):
        raise Finding("pixels are not finite")


# ---- all


def _conversion_mutate(data: bytes, draw: random.Random) -> bytes:
    """Any of a safetensors file's changes, and the digest of its arrays that fits them, where they can be read."""
    from safetensors.numpy import load

    from fastlic.integrations.compressai.integers import _digest

    changed = mutate.of_safetensors(data, draw, "format")
    try:
        file = mutate.Safetensors(changed)
        file.metadata["digest"] = _digest(load(changed), str(file.metadata.get("weights")))
        return file.pack() if draw.randrange(32) else changed
    except Exception:  # what safetensors and numpy raise for files that none of them reads
        return changed


TARGETS: dict[str, Target] = {
    **{f"flic-{name}": Target(_flic_seeds(name), mutate.of_flic, _flic_run(name)) for name in CODECS},
    "codec-jahp": Target(_codec_seeds("narrow-jahp", "jahp_fixed"), mutate.of_safetensors, _codec_run),
    "codec-mean-scale": Target(_codec_seeds("narrow-mean-scale", "narrow-scale"), mutate.of_safetensors, _codec_run),
    "codec-mlic": Target(_codec_seeds(*NARROW_MLIC), mutate.of_safetensors, _codec_run),
    "codec-mcquic": Target(_codec_seeds("mcquic", "mcquic-context"), mutate.of_safetensors, _codec_run),
    "stored": Target(_stored_seeds, mutate.of_safetensors, _stored_run),
    "mcq": Target(_mcq_seeds, mutate.of_msgpack, _mcq_run),
    "mcquic": Target(_checkpoint_seeds, mutate.of_zip, _checkpoint_run),
    "conversion": Target(_conversion_seeds, _conversion_mutate, _conversion_run),
    "strings": Target(_strings_seeds, mutate.of_wrapped, _strings_run),
    "official": Target(_official_seeds, _official_mutate, _official_run),
    "compressai": Target(_compressai_seeds, mutate.of_wrapped, _compressai_run),
}
