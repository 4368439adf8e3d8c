"""The C++ core under ThreadSanitizer: all that starts threads, or is used from several of them at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import ninja
import numpy as np
import pytest
import torch
from ninja.ninja_syntax import Writer
from torch import Tensor

from fastlic.codec.codec import Codec
from fastlic.entropy.code_context import IntegerCodeContext
from fastlic.integers.functions import Curve
from fastlic.integers.layer import HALVED, PLAIN, TRANSPOSED
from fastlic.integers.network import GateStep, Network
from fastlic.integers.shapes import Shape
from fastlic.models import MLICPlusPlus
from fastlic.models.mcquic.context import CodeContext

from ..integers.made_networks import Draw, write_arrays

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
FLAGS = "-std=c++20 -O1 -g -ffp-contract=off -fno-math-errno -fsanitize=thread -Wno-uninitialized"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver, built with clang++ as ThreadSanitizer of g++ reports its own runtime."""
    compiler = shutil.which("clang++")
    if compiler is None:
        pytest.skip("clang++ is not installed")
    out = tmp_path_factory.mktemp("threads")
    with (out / "build.ninja").open("w") as file:
        writer = Writer(file, width=10_000)
        writer.rule("cxx", f"{compiler} {FLAGS} -I{CSRC} -MMD -MF $out.d -c $in -o $out", deps="gcc", depfile="$out.d")
        writer.rule("link", f"{compiler} -fsanitize=thread $in -o $out -pthread")
        sources = [*sorted((CSRC / "fastlic").rglob("*.cpp")), CSRC / "tests" / "threads.cpp"]
        names = ["_".join(source.relative_to(CSRC).with_suffix(".o").parts) for source in sources]
        objects = [writer.build(name, "cxx", str(s))[0] for name, s in zip(names, sources, strict=True)]
        writer.build("threads", "link", objects)
    subprocess.run([str(Path(ninja.BIN_DIR) / "ninja"), "-C", str(out), "-j2"], check=True, stdout=sys.stderr)
    return out / "threads"


def run(threads: Path, *arguments: str) -> None:
    done = subprocess.run(
        [str(threads), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"},
    )
    assert done.returncode == 0 and "no finding" in done.stdout, done.stderr[-4000:]


def tree() -> Network:
    """Steps of every kind, over halves that are doubled again, from latents to pixels."""
    draw, inputs = Draw(np.random.default_rng(1)), Shape(5, 14)
    first = draw.layer(inputs, 24, PLAIN, 1, 12)
    level = draw.layer_norm(first.shape(inputs))
    wide = draw.layer(level.shape(first.shape(inputs)), 24, PLAIN, 1, 12)
    windows = draw.windows(Shape(24, 12), [2])
    own = windows.shape(Shape(24, 12))
    half = draw.layer(own, 17, HALVED, 5, curve=Curve.SILU)
    norm = draw.norm(half.shape(own))
    x = norm.shape(half.shape(own))
    inner = draw.layer(x, 17, PLAIN, 3, 14, wide=True, reflect=True)
    joined = draw.sum(x, inner.shape(x))
    y = joined.shape(x, inner.shape(x))
    gated = GateStep(draw.exponents(17))
    last = draw.layer(gated.shape(y, inner.shape(x)), 3, TRANSPOSED, 5, 9, rectified=True)
    entry = draw.requantiser(5, 14, np.full(5, 20000.0))
    steps = (first, level, wide, windows, half, norm, inner, joined, gated, last)
    return Network(steps, ((0,), (1,), (2,), (3,), (4,), (5,), (6,), (6, 7), (8, 7), (9,)), entry)


@pytest.fixture(scope="module")
def models(codec: Codec, photo: Tensor) -> dict[str, dict[str, np.ndarray]]:
    """Arrays by model: "engine" or "engine: name"."""
    sys.path.insert(0, str(ROOT / "fuzz"))
    from models import load

    torch.manual_seed(3)
    wide = Codec(MLICPlusPlus(8, 24, (12, 16, 24), slices=3), calibration=[photo])
    context = CodeContext(3, 40, 8, 33).eval()
    codes = torch.randint(40, (1, 3, 12, 12))
    small = load()
    return {
        "engine": codec.entropy.to_arrays(),
        "slices": wide.entropy.to_arrays(),
        **{f"slices: {name}": small[name] for name in ("mlic", "mlic_plus", "mlic_early")},
        "groups": small["groups"],
        "network": tree().to_arrays("n"),
        "codes": IntegerCodeContext.from_float(context, context.rows(codes)).to_arrays(),
    }


@pytest.mark.parametrize("what", ["parts", "coders"])
def test_teams_codebook_search_gdn_and_batches_of_streams_have_no_race(threads, what):
    run(threads, what)


@pytest.mark.parametrize(
    "model",
    ["engine", "slices", "slices: mlic", "slices: mlic_plus", "slices: mlic_early", "groups", "codes", "network"],
)
def test_engines_have_no_race(threads, model, models, tmp_path):
    run(threads, model.split(":")[0], str(write_arrays(models[model], tmp_path / "model")))


@pytest.mark.parametrize("name", ["jahp", "mlicpp", "mcquic"])
def test_codecs_that_threads_share_have_no_race(threads, name):
    run(threads, "codec", str(ROOT / "tests" / "golden" / f"tiny_pixels_{name}.safetensors"))
