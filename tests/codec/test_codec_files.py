"""Codec files that are damaged or lie: one error at load, with file and field, and no memory beyond the file's size."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from fastlic import Codec
from fastlic.codec import storage
from fastlic.errors import CodecFileError, FastlicError
from fastlic.models import JAHP, McQuic
from fastlic.models.mcquic import load_published, save_published
from fastlic.models.mlic import MLICPlusPlus

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS = ("jahp", "mlic++", "mcquic")

# Values that a field of the description or of the configuration has no use for.
ODD: list[Any] = [None, -1, 0, 10**9, 10**30, 1.5, float("1e400"), True, "x", "", [], [-1], [40000] * 3, {}, {"a": 1}]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("files") / "mcquic.safetensors"
    Codec(McQuic(8, 2, [8, 4]), [torch.rand(3, 64, 96)]).save(path, half=True, training=False)
    return {"jahp": GOLDEN / "tiny_jahp.safetensors", "mlic++": GOLDEN / "tiny_early.safetensors", "mcquic": path}


def parts(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return load(data), json.loads(header["__metadata__"]["fastlic"])


def mutate(tensors: dict[str, Tensor], description: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    value = tensors[name]
    kind = rng.randrange(10)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name + rng.choice(["", ".x", "0"])] = torch.zeros(rng.choice([0, 1, 7]), dtype=value.dtype)
    elif kind == 2:
        tensors[name] = value.to(rng.choice([torch.int8, torch.uint8, torch.int32, torch.int64, torch.float32]))
    elif kind == 3:
        tensors[name] = value.reshape(-1)[: rng.randrange(value.numel() + 1)].clone()
    elif kind == 4:
        tensors[name] = value[None].clone() if rng.random() < 0.5 else torch.cat([value.reshape(-1)] * 2)
    elif kind == 5 and value.ndim > 1:
        tensors[name] = value.transpose(0, 1).contiguous()
    elif kind == 6 and value.numel():
        flat = value.reshape(-1).clone()
        odd = [float("nan"), float("inf"), 6e4] if value.is_floating_point() else [-128, -1, 0, 1, 127]
        flat[rng.randrange(len(flat))] = rng.choice(odd)
        tensors[name] = flat.reshape(value.shape)
    elif kind == 7:
        tensors[name] = torch.full_like(value, rng.choice([-1, 0, 1, 127]))
    elif kind == 8:
        description[rng.choice(sorted(description))] = rng.choice(ODD)
    else:
        config = description["config"]
        config[rng.choice([*sorted(config), "more"])] = rng.choice(ODD)


def outcome(path: Path) -> str:
    """What becomes of a codec file: refused, or taken, and then a round trip works or says why not."""
    try:
        codec = Codec.load(path)
    except CodecFileError as error:
        assert str(path) in str(error)
        return "refused"
    x = torch.linspace(0, 1, 3 * 40 * 50).reshape(3, 40, 50)
    try:
        data = codec.compress(x, 1 if codec.qualities else None)
        assert isinstance(data, bytes)
        codec.decompress(data)
    except (FastlicError, ValueError) as error:
        assert "finite" in str(error), error
    return "taken"


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_codec_files_are_refused_with_one_error_or_work(kind, files, tmp_path):
    rng = random.Random(kind)
    path = tmp_path / "mutated.safetensors"
    outcomes = []
    for _ in range({"jahp": 80, "mlic++": 30, "mcquic": 15}[kind]):  # some have thousands of arrays
        tensors, description = parts(files[kind])
        for _ in range(rng.choice([1, 1, 2])):
            mutate(tensors, description, rng)
        path.write_bytes(storage.sealed(tensors, description))
        outcomes.append(outcome(path))
    assert {"refused", "taken"} == set(outcomes)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_any_flipped_bit_of_a_codec_file_is_reported(kind, files, tmp_path):
    path = tmp_path / "flipped.safetensors"
    Codec.load(files[kind]).save(path, half=True, training=False)
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    rng = random.Random(kind)
    positions = [
        *range(64),
        *(rng.randrange(header) for _ in range(100)),
        *(rng.randrange(len(good)) for _ in range(60)),
    ]
    for position in positions:
        data = bytearray(good)
        data[position] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with pytest.raises(CodecFileError):
            Codec.load(path)
    for cut in (0, 7, 8, 100, header, len(good) - 1):
        path.write_bytes(good[:cut])
        with pytest.raises(CodecFileError):
            Codec.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, d: d.pop("name"), "no 'name' of type str"),
        (lambda t, d: d.update(config=[]), "no 'config' of type dict"),
        (lambda t, d: d.update(family="resnet"), "'resnet' codec"),
        (lambda t, d: d["config"].update(depth=3), "'depth'"),
        (lambda t, d: d["config"].update(M="many"), "M must be a number"),
        (lambda t, d: d["config"].update(widths=[12, 16]), "widths"),
        (lambda t, d: t.update({"float/g_s.0.weight": torch.zeros(3)}), r"g_s\.0\.weight is \[3\] in place of"),
        (
            lambda t, d: t.update({"float/g_s.0.bias": t["float/g_s.0.bias"] * float("nan")}),
            r"g_s\.0\.bias.*not finite",
        ),
        (lambda t, d: t.pop("float/g_s.0.bias"), r"missing: g_s\.0\.bias"),
        (lambda t, d: t.update({"float/other": torch.zeros(3)}), "other is unknown"),
        (lambda t, d: t.pop("entropy/hyper.1.bias"), r"hyper\.1\.bias"),
        (lambda t, d: t.update({"entropy/other": torch.zeros(3, dtype=torch.int32)}), "entropy/other"),
        (lambda t, d: t.update(other=torch.zeros(3)), "other of type"),
        (lambda t, d: t.update({"entropy/y.thresholds": torch.zeros(63, dtype=torch.int64)}), r"y\.thresholds"),
    ],
)
def test_the_error_names_what_is_wrong(change, message, files, tmp_path, reseal):
    path = tmp_path / "bad.safetensors"
    reseal(files["jahp"], path, change)
    with pytest.raises(CodecFileError, match=message) as caught:
        Codec.load(path)
    assert str(path) in str(caught.value)


def test_other_files_are_told_apart(tmp_path):
    path = tmp_path / "x.safetensors"
    for content in (b"", b"PK\3\4", b"\xff" * 100, (1 << 40).to_bytes(8, "little") + b"{}", b"\2" + bytes(7) + b"[]"):
        path.write_bytes(content)
        with pytest.raises(CodecFileError, match="no readable safetensors file"):
            Codec.load(path)
    path.write_bytes(save({"a": torch.zeros(1)}, {"fastlic": "[" * 100_000}))
    with pytest.raises(CodecFileError, match="description is no JSON"):
        Codec.load(path)


# ---- sizes follow from the arrays that are there


def bombs() -> dict[str, Any]:
    """Name -> a function that makes a file or a state dict which claims a model of gigabytes."""
    wide = {"N": 40000, "M": 40000, "widths": [40000] * 3, "qualities": 0}

    def codec_file(family: str, config: dict[str, Any], path: Path) -> None:
        description = {"layout": 3, "name": "bomb", "family": family, "config": config}
        path.write_bytes(storage.sealed({}, description))

    return {
        "jahp": lambda path: codec_file("jahp", wide, path),
        "mlic++": lambda path: codec_file("mlic++", {**wide, "slices": 2}, path),
        "mcquic": lambda path: codec_file("mcquic", {"channel": 40000, "m": 2, "k": [8, 4]}, path),
    }


BOMB = """
import pathlib, resource, sys, torch
from fastlic import Codec
from fastlic.errors import CodecFileError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        Codec.load(path)
    except CodecFileError as error:
        continue
    raise SystemExit(f"{path} was taken")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_codec_file_that_claims_a_huge_model_costs_no_memory(files, tmp_path, reseal):
    paths = []
    for name, make in bombs().items():
        paths.append(tmp_path / f"{name}.safetensors")
        make(paths[-1])
    # With all the arrays of a small model, too.
    for name, claim in (("jahp", {"widths": [12, 40000, 24]}), ("mlic++", {"sizes": {"parameters": [40000] * 3}})):
        paths.append(tmp_path / f"{name}-whole.safetensors")
        reseal(files[name], paths[-1], lambda _, description, claim=claim: description["config"].update(claim))
    done = subprocess.run(
        [sys.executable, "-c", BOMB, *map(str, paths)], capture_output=True, text=True, timeout=120, cwd=GOLDEN
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100  # MB


def claimed(state: dict[str, Tensor], key: str, axis_0: int) -> dict[str, Tensor]:
    """``state`` whose array ``key`` says that a layer has ``axis_0`` outputs."""
    shape = [axis_0, *(1 for _ in state[key].shape[1:])]
    return state | {key: torch.zeros(shape)}


@pytest.mark.parametrize(
    ("model", "key"),
    [
        (lambda: JAHP(8, 12, (12, 16, 24)), "g_a.2.weight"),
        (lambda: MLICPlusPlus(8, 24, (12, 16, 24), slices=2), "h_a.0.weight"),
        (lambda: McQuic(8, 2, [8, 4]), "_encoder.0.weight"),
    ],
)
def test_a_state_dict_that_claims_a_huge_model_costs_no_memory(model, key):
    made = model()
    state = claimed(made.state_dict(), key, 40000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"does not fit {type(made).__name__}"):
        type(made).from_state_dict(state)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.fixture
def published(tmp_path) -> Path:
    save_published(McQuic(8, 2, [8, 4]), tmp_path / "x.mcquic")
    return tmp_path / "x.mcquic"


def wider(content: dict[str, Any]) -> None:
    content["model"] = claimed(content["model"], "_encoder.0.weight", 40000)


def views(content: dict[str, Any]) -> None:
    shapes = {name: value.shape for name, value in McQuic(160, 2, [8, 4]).state_dict().items()}
    content["model"] = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wider, "does not fit McQuic"),
        (views, "claim more than the memory they share"),
        (lambda content: content.pop("model"), "no McQuic model"),
        (lambda content: content.update(model={"_encoder.0.weight": 3}), "no McQuic model"),
        (lambda content: content["model"].update(more=torch.zeros(3)), "more is unknown"),
        (lambda content: content["model"].update({"_encoder.0.weight": torch.tensor(1.0)}), "does not fit McQuic"),
        (lambda content: content["model"].update(_prices=torch.zeros(3, 3)), "does not fit McQuic"),
    ],
)
def test_a_published_checkpoint_that_lies_is_refused(change, message, published):
    content = torch.load(published, weights_only=True)
    change(content)
    torch.save(content, published)
    with pytest.raises(CodecFileError, match=rf"x\.mcquic.*{message}"):
        load_published(published)


def test_a_published_checkpoint_may_not_be_compressed_or_something_else(published):
    stored = published.read_bytes()
    with zipfile.ZipFile(published) as archive:
        parts = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(published, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    with pytest.raises(CodecFileError, match="its parts are compressed"):
        load_published(published)
    with zipfile.ZipFile(published, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, b"\x80\x02J\1" if name.endswith("data.pkl") else part)  # ends inside a number
    with pytest.raises(CodecFileError, match=r"x\.mcquic is no checkpoint"):
        load_published(published)
    rng = random.Random(0)
    for content in (b"", b"PK", stored[:1000], stored[:-100]):
        published.write_bytes(content)
        with pytest.raises(CodecFileError, match=r"x\.mcquic is no checkpoint"):
            load_published(published)
    for _ in range(40):  # the pickle, which is near the start
        data = bytearray(stored)
        data[rng.randrange(30_000)] ^= 1 << rng.randrange(8)
        published.write_bytes(data)
        with contextlib.suppress(CodecFileError):
            load_published(published)
