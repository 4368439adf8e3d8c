"""Models with loops of their own around compressai.ans: our coder in them, the same bytes, no other model changed."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn as nn
from torch import Tensor

pytest.importorskip("compressai.ans")

import compressai.ans
from compressai import ans
from compressai.ans import BufferedRansEncoder, RansDecoder
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel
from compressai.models.base import get_scale_table

import fastlic
from fastlic.errors import CorruptStreamError
from fastlic.integrations.compressai import loops

SLICES, WIDTH = 3, 4
COUNTER = 0


class Parts:
    """Networks of a channel-slice model, as forks have them."""

    def make(self: Any) -> None:
        m = SLICES * WIDTH
        self.g_a = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.GELU(), nn.Conv2d(8, m, 5, 4, 2))
        self.g_s = nn.Sequential(nn.ConvTranspose2d(m, 8, 4, 4), nn.GELU(), nn.ConvTranspose2d(8, 3, 4, 4))
        self.h_a = nn.Conv2d(m, 6, 5, 4, 2)
        self.h_s = nn.ConvTranspose2d(6, 2 * m, 4, 4)
        self.heads = nn.ModuleList(nn.Conv2d(2 * m + WIDTH * k, 2 * WIDTH, 3, 1, 1) for k in range(SLICES))
        self.entropy_bottleneck = EntropyBottleneck(6)
        self.gaussian_conditional = GaussianConditional(get_scale_table().tolist())

    def update_tables(self: Any) -> None:
        self.entropy_bottleneck.update()
        self.gaussian_conditional.update()

    def parameters_of(self: Any, k: int, support: list[Tensor]) -> tuple[Tensor, Tensor]:
        scales, means = self.heads[k](torch.cat(support, 1)).chunk(2, 1)
        return scales.exp(), means

    def tables(self: Any) -> tuple[Any, Any, Any]:
        gaussian = self.gaussian_conditional
        lengths, offsets = gaussian.cdf_length.reshape(-1).int().tolist(), gaussian.offset.reshape(-1).int().tolist()
        return gaussian.quantized_cdf.tolist(), lengths, offsets


class Model(Parts, CompressionModel):
    def __init__(self) -> None:
        super().__init__()
        self.make()


class Slices(Model):
    """The loops of WACNN, TCM and their kind."""

    def compress(self, x):
        y = self.g_a(x)
        z_strings = self.entropy_bottleneck.compress(self.h_a(y))
        size = (y.shape[2] // 4, y.shape[3] // 4)
        support = [self.h_s(self.entropy_bottleneck.decompress(z_strings, size))]
        symbols, indexes = [], []
        encoder = BufferedRansEncoder()
        for k, part in enumerate(y.chunk(SLICES, 1)):
            scales, means = self.parameters_of(k, support)
            index = self.gaussian_conditional.build_indexes(scales)
            symbol = self.gaussian_conditional.quantize(part, "symbols", means)
            symbols.extend(symbol.reshape(-1).tolist())
            indexes.extend(index.reshape(-1).tolist())
            support.append(symbol + means)
        encoder.encode_with_indexes(symbols, indexes, *self.tables())
        return {"strings": [[encoder.flush()], z_strings], "shape": size}

    def decompress(self, strings, shape):
        support = [self.h_s(self.entropy_bottleneck.decompress(strings[1], shape))]
        decoder = RansDecoder()
        decoder.set_stream(strings[0][0])
        for k in range(SLICES):
            scales, means = self.parameters_of(k, support)
            index = self.gaussian_conditional.build_indexes(scales)
            values = decoder.decode_stream(index.reshape(-1).tolist(), *self.tables())
            support.append(self.gaussian_conditional.dequantize(torch.Tensor(values).reshape(means.shape), means))
        return {"x_hat": self.g_s(torch.cat(support[1:], 1)).clamp_(0, 1)}


class Bare(Parts, nn.Module):
    """The same of no class of CompressAI's, as TinyLIC is built."""

    def __init__(self) -> None:
        super().__init__()
        self.make()

    compress, decompress = Slices.compress, Slices.decompress


class Coder(Model):
    """Loops whose coders come from methods, which the classes below write in other ways."""

    def encoder(self):
        return BufferedRansEncoder()

    def decoder(self):
        return RansDecoder()

    def compress(self, x):
        y = torch.round(self.g_a(x) * 20).int()
        encoder = self.encoder()
        encoder.encode_with_indexes(y.reshape(-1).tolist(), [3] * y.numel(), *self.tables())
        return {"strings": [[encoder.flush()]], "shape": tuple(y.shape)}

    def decompress(self, strings, shape):
        decoder = self.decoder()
        decoder.set_stream(strings[0][0])
        values = decoder.decode_stream([3] * (shape[1] * shape[2] * shape[3]), *self.tables())
        return {"x_hat": self.g_s(torch.Tensor(values).reshape(shape) / 20)}


class OfTheModule(Coder):
    def encoder(self):
        return ans.BufferedRansEncoder()

    def decoder(self):
        return ans.RansDecoder()


class OfThePackage(Coder):
    def encoder(self):
        return compressai.ans.BufferedRansEncoder()

    def decoder(self):
        return compressai.ans.RansDecoder()


class ImportedWithin(Coder):
    def encoder(self):
        from compressai.ans import BufferedRansEncoder as Encoder

        return Encoder()

    def decoder(self):
        import compressai.ans as coder

        return coder.RansDecoder()


class Static(Coder):
    @staticmethod
    def encoder():
        return BufferedRansEncoder()

    @classmethod
    def decoder(cls):
        return RansDecoder()


class Decorated(Coder):
    @torch.no_grad()
    def encoder(self):
        return BufferedRansEncoder()

    @torch.inference_mode()
    def decoder(self):
        return (lambda: RansDecoder())()


def an_encoder():
    return BufferedRansEncoder()


def a_coder(encodes):
    return an_encoder() if encodes else RansDecoder()


class ByFunctions(Coder):
    def encoder(self):
        return a_coder(True)

    def decoder(self):
        return a_coder(False)


class OfABase(Decorated):
    """Its methods call super() by the cell __class__."""

    def encoder(self):
        super().tables()
        return BufferedRansEncoder()

    def compress(self, x):
        return super().compress(x)


class CallsSuper(OfABase):
    """Nothing here names the coder."""

    def encoder(self):
        return super().encoder()

    def decoder(self):
        return super().decoder()


def closed() -> type[Coder]:
    made = []

    def encoder(self):
        made.append(len(made))
        return BufferedRansEncoder()

    encoder.made = made
    return type("Closed", (Coder,), {"encoder": encoder, "__module__": __name__})


SERVED: dict[str, Callable[[], type[Coder]]] = {
    **{cls.__name__: lambda cls=cls: cls for cls in (Coder, OfTheModule, OfThePackage, ImportedWithin, Static)},
    **{cls.__name__: lambda cls=cls: cls for cls in (Decorated, ByFunctions, OfABase, CallsSuper)},
    "Closed": closed,
}


class WritesGlobals(Coder):
    def encoder(self):
        global COUNTER
        COUNTER += 1
        return BufferedRansEncoder()


class ReadsGlobals(Coder):
    def encoder(self):
        return globals()["BufferedRansEncoder"]() if COUNTER < 0 else BufferedRansEncoder()


class ByAClass(Coder):
    def encoder(self):
        return Helper().encoder

    decoder = Coder.decoder


class Helper:
    def __init__(self):
        self.encoder = BufferedRansEncoder()


class AProperty(Coder):
    @property
    def encoder(self):
        return lambda: BufferedRansEncoder()


LEFT = {
    WritesGlobals: r"encoder: it writes the global COUNTER",
    ReadsGlobals: r"encoder: it calls globals\(\)",
    ByAClass: r"encoder calls the class Helper",
    AProperty: r"encoder is a property around a function",
}


def built(cls: type) -> Any:
    torch.manual_seed(2)
    model = cls().eval()
    model.update_tables()
    with torch.no_grad():
        model.g_a[2].weight *= 60  # symbols far from zero, and some outside of their rows' windows
    return model


def image(seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Which of the two classes that ``accelerate`` installs were made."""
    made: list[str] = []
    for name in ("BufferedRansEncoder", "RansDecoder"):
        real = loops._OURS[name]
        spy = type(
            name, (real,), {"__init__": lambda self, real=real, n=name: (made.append(n), real.__init__(self))[1]}
        )
        monkeypatch.setitem(loops._OURS, name, spy)
    loops._stand_in.cache_clear()
    yield made
    loops._stand_in.cache_clear()


def run(model: Any, x: Tensor) -> tuple[Any, Tensor]:
    with torch.no_grad():
        out = model.compress(x)
        return out, model.decompress(out["strings"], out["shape"])["x_hat"]


@pytest.mark.parametrize("cls", [Slices, Bare])
@pytest.mark.parametrize("format", ["native", "compressai"])
def test_strings_of_such_loops_are_compressais_in_both_formats(asked, cls, format):
    model, x = built(cls), image()
    plain, pixels = run(model, x)
    report = fastlic.accelerate(model, format)
    (row,) = [row for row in report.rows if row.part == "own loops"]
    assert row.replaced and row.modules == ("",) and row.note.startswith("compress, decompress: CompressAI's bytes")
    assert "decode only where every float comes out the same" in report.guarantee
    assert "ModelMismatchError" not in report.guarantee
    out, x_hat = run(model, x)
    assert out["strings"][0] == plain["strings"][0] and out["shape"] == plain["shape"]
    assert (out["strings"][1] == plain["strings"][1]) == (format == "compressai")
    assert asked == ["BufferedRansEncoder", "RansDecoder"]
    assert torch.allclose(x_hat, pixels, atol=1e-5)
    assert fastlic.restore(model) and type(model) is cls
    again, _ = run(model, x)
    assert again["strings"] == plain["strings"] and len(asked) == 2


def test_damage_in_such_a_loop_is_an_error_in_words():
    model = built(Slices)
    fastlic.accelerate(model)
    out, _ = run(model, image())
    (y,), z = out["strings"]
    with pytest.raises(CorruptStreamError), torch.no_grad():
        model.decompress([[y[: len(y) // 8 * 4]], z], out["shape"])


@pytest.mark.parametrize("name", SERVED)
def test_loops_are_served_however_they_come_to_the_coder(asked, name):
    model, x = built(SERVED[name]()), image()
    plain, pixels = run(model, x)
    before = len(getattr(model.encoder, "made", ()))
    report = fastlic.accelerate(model, "compressai")
    assert [row.replaced for row in report.rows if row.part == "own loops"] == [True], str(report)
    out, x_hat = run(model, x)
    assert out["strings"] == plain["strings"] and torch.allclose(x_hat, pixels, atol=1e-5)
    assert asked == ["BufferedRansEncoder", "RansDecoder"]
    if before:  # the closure's list is the one that it was
        assert len(model.encoder.made) == before + 1


@pytest.mark.parametrize("cls", LEFT)
def test_what_cannot_be_served_codes_as_before_and_is_named(cls):
    model, x = built(cls), image()
    plain, pixels = run(model, x)
    report = fastlic.accelerate(model)
    left = [row for row in report.left if row.part == "own loops"]
    assert len(left) == 1
    assert left[0].note.startswith("compressai.ans as before: ")
    with pytest.raises(AssertionError, match=LEFT[cls]):
        raise AssertionError(left[0].note)
    assert "CompressAI's" in report.guarantee
    out, x_hat = run(model, x)
    assert out["strings"] == plain["strings"] and torch.allclose(x_hat, pixels, atol=1e-5)


def test_what_the_instance_brings_is_named(asked):
    model = built(Coder)
    model.encoder = lambda: BufferedRansEncoder()
    model.kept = RansDecoder()
    report = fastlic.accelerate(model)
    served, left = [row for row in report.rows if row.part == "own loops"]
    assert served.note.startswith("decoder: ")
    assert left.note == "compressai.ans as before: encoder is set on the instance; kept holds a coder"
    run(model, image())
    assert asked == ["RansDecoder"]


def test_nobody_else_is_changed(asked):
    module, other = sys.modules[__name__], built(Slices)
    before = dict(vars(module))
    model = built(Slices)
    fastlic.accelerate(model)
    run(model, image())
    assert len(asked) == 2
    run(other, image())
    assert len(asked) == 2
    assert dict(vars(module)) == before and compressai.ans.RansDecoder is RansDecoder
    assert type(other) is Slices and "compress" in vars(Slices)


def test_copies_and_pickles_stay_served(asked):
    model, x = built(Slices), image()
    plain, _ = run(model, x)
    fastlic.accelerate(model, "compressai")
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)]
    for k, other in enumerate(others):
        assert run(other, x)[0]["strings"] == plain["strings"]
        assert len(asked) == 2 * (k + 1)
        fastlic.restore(other)
        assert type(other) is Slices


def test_globals_and_methods_that_change_later_are_followed(asked, monkeypatch):
    model, x = built(Slices), image()
    fastlic.accelerate(model, "compressai")
    plain, _ = run(model, x)

    class Mine(BufferedRansEncoder):
        pass

    monkeypatch.setitem(globals(), "BufferedRansEncoder", Mine)
    assert run(model, x)[0]["strings"] == plain["strings"]
    assert asked == ["BufferedRansEncoder", "RansDecoder", "RansDecoder"]
    monkeypatch.setattr(Slices, "compress", lambda self, x: BufferedRansEncoder)
    assert model.compress(x) is Mine
    monkeypatch.undo()
    run(model, x)


def test_new_tables_are_noticed():
    model, x = built(Slices), image()
    fastlic.accelerate(model, "compressai")
    run(model, x)
    twin = built(Slices)
    for each in (model, twin):
        each.gaussian_conditional.update_scale_table(get_scale_table(0.2, 128, 32), force=True)
    assert run(model, x)[0]["strings"] == run(twin, x)[0]["strings"]


def test_the_plain_coder_in_python_is_not_for_such_loops():
    model, x = built(Slices), image()
    plain, _ = run(model, x)
    report = fastlic.accelerate(model, "compressai", backend="reference")
    (row,) = [row for row in report.rows if row.part == "own loops"]
    assert not row.replaced and "backend 'reference' has none: compress, decompress" in row.note
    assert run(model, x)[0]["strings"] == plain["strings"]
