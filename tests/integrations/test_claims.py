"""What callers and files claim, held to the bytes that came: shapes of ``decompress``, and saved conversions."""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

import fastlic
from fastlic import config
from fastlic.errors import CodecFileError, CorruptStreamError, ModelMismatchError, OutOfMemoryError, PixelLimitError
from fastlic.integrations.compressai import integers as module

from .conftest import BUILDERS, build, image

CODECS = ("cheng2020-anchor-checkerboard", "elic2022-official", "elic2022-chandelier")  # shapes are dictionaries
# Of models that differ in nothing that matters here, one is tried every time.
SLOW = ("bmshj2018-factorized-relu", "cheng2020-attn", "elic2022-chandelier", "mbt2018-mean-vbr", "mbt2018-vbr")
EACH = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in BUILDERS]
SAVED = ("mbt2018-mean", "mbt2018", "elic2022-official", "bmshj2018-hyperprior-vbr")


@pytest.fixture(scope="module")
def made():
    """(name, format) -> (accelerated model, its report, what it compressed)."""
    return {}


@pytest.fixture
def accelerated(made):
    def get(name: str, format: str):
        if (name, format) not in made:
            model = build(name)
            report = fastlic.accelerate(model, format, calibration=[image(1, 64, 64)[0]])
            made[name, format] = model, report, model.compress(image(1, 64, 64))
        return made[name, format]

    return get


def claims(shape, value):
    """Every place of a shape, with ``value`` in it."""
    if isinstance(shape, dict):
        for key, part in shape.items():
            yield from ({**shape, key: new} for new in [value, *claims(part, value)])
    elif isinstance(shape, list):
        for i, part in enumerate(shape):
            yield from ([*shape[:i], new, *shape[i + 1 :]] for new in [value, *claims(part, value)])
    else:
        yield from (tuple(value if i == k else n for k, n in enumerate(shape)) for i in range(len(shape)))


@pytest.mark.parametrize("format", ["native", "compressai"])
@pytest.mark.parametrize("name", EACH)
def test_a_wrong_shape_is_refused_in_words(name, format, accelerated):
    """Negative, fractional, absent, of another length, too small and too large: never an error of torch's layers."""
    model, _, out = accelerated(name, format)
    wrong = [None, 7, "8", (), (1,), (1, 1, 1, 1), {"hyper": (1, 1)}, {"y": None, "hyper": None}]
    wrong += [case for value in (0, -1, 1.5, None, 2, 3, 10**9, 2**63, [1, 2]) for case in claims(out["shape"], value)]
    for shape in wrong:
        try:
            x_hat = model.decompress(out["strings"], shape)["x_hat"]
        except (ValueError, ModelMismatchError) as error:
            assert len(str(error)) > 20
            continue
        # The integer path reads the hyper latent's size alone.
        assert format == "native" and name in CODECS and torch.equal(torch.tensor(shape["hyper"]), torch.tensor([1, 1]))
        assert x_hat.shape[2:] == (64, 64)
    for strings in (None, [], out["strings"][:-1], [*out["strings"], out["strings"][0]], [None] * len(out["strings"])):
        with pytest.raises((ValueError, AssertionError, TypeError)):  # CompressAI's own assertions say these
            model.decompress(strings, out["shape"])
    assert model.decompress(out["strings"], out["shape"])["x_hat"].shape[2:] == (64, 64)


@pytest.mark.parametrize("format", ["native", "compressai"])
@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean", "mbt2018", "bmshj2018-hyperprior-vbr"])
def test_strings_that_are_none_are_told_alike_in_both_formats(name, format, accelerated):
    model, _, out = accelerated(name, format)
    strings = out["strings"]
    for wrong in ([["text"]] * len(strings), [*strings[:-1], ["text"]], [["text"], *strings[1:]]):
        with pytest.raises(TypeError, match="strings must hold bytes, got str"):
            model.decompress(wrong, out["shape"])
    for wrong in (strings[:-1], strings[0][0], None, [*strings, strings[0]]):
        with pytest.raises(ValueError, match=r"strings must be (1 list|2 lists) of bytes"):
            model.decompress(wrong, out["shape"])


@pytest.mark.parametrize("format", ["native", "compressai"])
@pytest.mark.parametrize("name", ["mbt2018-mean", "mbt2018", "elic2022-official", "bmshj2018-hyperprior-vbr"])
def test_an_image_that_needs_padding_is_told_so_in_both_formats(name, format, accelerated):
    model = accelerated(name, format)[0]
    with pytest.raises(ValueError, match=r"pad images to multiples of 64 \(compressai\.ops\.compute_padding\)"):
        model.compress(image(1, 64, 80))


@pytest.mark.parametrize("format", ["native", "compressai"])
@pytest.mark.parametrize(
    "name", ["bmshj2018-factorized", "mbt2018-mean", "elic2022-official", "bmshj2018-hyperprior-vbr"]
)
def test_a_claimed_size_is_in_proportion_to_the_bytes_that_came(name, format, accelerated, monkeypatch):
    model, _, out = accelerated(name, format)

    def claimed(rows, columns):
        shape = out["shape"]
        return {**shape, "hyper": (rows, columns)} if isinstance(shape, dict) else (rows, columns)

    with pytest.raises(PixelLimitError, match="above the limit of 89478485 pixels"):
        model.decompress(out["strings"], claimed(3000, 3000))
    with pytest.raises(CorruptStreamError, match=r"too (short|few)"):
        model.decompress(out["strings"], claimed(140, 140))
    monkeypatch.setenv(config.MAX_PIXELS_VARIABLE, "4095")
    with pytest.raises(PixelLimitError, match="FASTLIC_MAX_PIXELS"):
        model.decompress(out["strings"], out["shape"])
    monkeypatch.setenv(config.MAX_PIXELS_VARIABLE, "4096")
    model.decompress(out["strings"], out["shape"])


@pytest.mark.parametrize("format", ["native", "compressai"])
def test_a_latent_of_the_cheapest_symbols_is_no_claim_too_large(format):
    """The bound is one that no stream of the coder goes below: a latent of the likeliest symbols alone, 1 M of them."""
    model = build("bmshj2018-factorized")
    bottleneck = model.entropy_bottleneck
    with torch.no_grad():
        for channel in range(12):  # rows of one symbol and an escape of the least mass
            bottleneck._quantized_cdf[channel, :3] = torch.tensor([0, 65535, 65536])
            bottleneck._cdf_length[channel] = 3
            bottleneck._offset[channel] = 0
    fastlic.accelerate(model, format)
    y = bottleneck._get_medians().detach().reshape(1, 12, 1, 1).expand(1, 12, 290, 290)
    (data,) = bottleneck.compress(y)
    assert len(data) < 200
    assert torch.equal(bottleneck.decompress([data], (290, 290)), y)


_UNDER_A_LIMIT = """
    import resource, sys
    import torch
    from compressai.models import FactorizedPrior
    import fastlic
    from fastlic.errors import OutOfMemoryError
    torch.set_num_threads(1)
    model = FactorizedPrior(8, 12).eval()
    model.update()
    fastlic.accelerate(model, sys.argv[1])
    out = model.compress(torch.zeros(1, 3, 2048, 2048))
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))
    for call in (lambda: model.compress(torch.zeros(1).expand(1, 3, 2048, 2048)), lambda: model.decompress(**out)):
        try:
            call()
        except OutOfMemoryError as error:
            print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux")
def test_running_out_of_memory_is_our_error():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # what stands in for packages
    command = [sys.executable, "-c", textwrap.dedent(_UNDER_A_LIMIT), "native"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    compressed, decompressed = done.stdout.splitlines()
    assert compressed.startswith("not enough memory for compressing images of (1, 3, 2048, 2048)")
    assert decompressed.startswith("not enough memory for decompressing latents of torch.Size([128, 128])")
    assert resource.RLIMIT_AS is not None and issubclass(OutOfMemoryError, MemoryError)


# ---- saved conversions


def parts_of(model):
    from fastlic.integrations.compressai.groups import group_parts
    from fastlic.integrations.compressai.native_models import model_parts

    return group_parts(model.latent_codec) if hasattr(model, "latent_codec") else model_parts(model)


@pytest.fixture
def saved(accelerated, tmp_path):
    """(bytes of the saved conversion, how to read such bytes for that model, the integers)."""

    def get(name: str):
        model, report, _ = accelerated(name, "native")
        path = tmp_path / "saved.safetensors"
        report.save(path)
        parts, integers = parts_of(model), report.conversions[0].integers

        def read(data: bytes):
            path.write_bytes(data)
            return module.read(path, parts, type(integers))

        return path.read_bytes(), read, integers

    return get


@pytest.mark.parametrize("name", SAVED)
def test_damaged_conversions_are_one_error_or_the_same_integers(name, saved):
    data, read, integers = saved(name)
    source, expected = random.Random(len(name)), integers.fingerprint()
    head = 8 + int.from_bytes(data[:8], "little")
    assert read(data).fingerprint() == expected
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        kind = source.randrange(6)
        at = source.randrange(head if kind < 3 else len(data))
        if kind in (0, 3):
            damaged[at] ^= 1 << source.randrange(8)
        elif kind in (1, 4):
            del damaged[at : at + source.randrange(1, 2 if kind == 1 else len(data))]
        else:
            damaged[at:at] = source.randbytes(source.randrange(1, 9))
        try:
            assert read(bytes(damaged)).fingerprint() == expected
        except CodecFileError as error:
            assert "saved.safetensors" in str(error)
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("name", [SAVED[0], *(pytest.param(name, marks=pytest.mark.slow) for name in SAVED[1:])])
def test_forged_conversions_are_refused_with_file_and_field(name, saved):
    """Arrays that are missing, of another shape, type or length under a digest that is right."""
    data, read, _ = saved(name)
    about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    arrays = load(data)
    changes = {
        "none": lambda a: None,
        "a number": lambda a: a.reshape(-1)[0].reshape(()),
        "empty": lambda a: a.reshape(-1)[:0],
        "flat": lambda a: a.reshape(-1),
        "one more axis": lambda a: a[None],
        "short": lambda a: a[: len(a) // 2],
        "float": lambda a: a.astype(np.float32) * np.nan,
        "int64": lambda a: a.astype(np.int64),
        "least": lambda a: np.full_like(a, np.iinfo(a.dtype).min if a.dtype.kind in "iu" else -np.inf),
    }
    accepted = []
    for field, array in arrays.items():
        for change, forge in changes.items():
            forged = {k: v for k, v in arrays.items() if k != field}
            if (new := forge(array)) is not None:
                forged[field] = np.ascontiguousarray(new)
            digest = module._digest(forged, about)
            try:
                read(save(forged, about | {"digest": digest}))
                accepted.append((field, change))
            except CodecFileError as error:
                assert "saved.safetensors" in str(error)
    # What is accepted is what a model may well be: other integers of the right form.
    assert len(accepted) < 0.25 * len(arrays) * len(changes), accepted


@pytest.mark.parametrize("content", [b"", b"no file of tensors", save({"x": np.zeros(3)}), save({}, {"format": "pt"})])
def test_other_files_are_refused_by_name_and_not_worked_around(content, tmp_path, accelerated):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    model = copy.deepcopy(accelerated("mbt2018-mean", "native")[0])
    with pytest.raises(CodecFileError, match=r"other\.safetensors"):
        fastlic.accelerate(model, calibration=path)
    with pytest.raises(FileNotFoundError):
        fastlic.accelerate(model, calibration=tmp_path / "none.safetensors")


def test_a_conversion_of_another_kind_of_model_is_refused(accelerated, tmp_path):
    """The weights' digest is that of this model, as of a model whose report was saved before a part was exchanged."""
    model, report, _ = accelerated("mbt2018", "native")
    other = accelerated("mbt2018-mean", "native")[1].conversions[0]
    coder = report.conversions[0]
    module.save(type(coder)(other.integers, coder.settings, coder.digest), tmp_path / "a.safetensors")
    with pytest.raises(CodecFileError, match="no context, unlike this model"):
        module.read(tmp_path / "a.safetensors", parts_of(model))
