"""What CompressAI's users run: its evaluation tool, and its choice of an entropy coder."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastlic
from fastlic.errors import CorruptStreamError
from fastlic.integrations.compressai import register_entropy_coder
from fastlic.integrations.compressai.swap import is_specialised

from .conftest import BUILDERS, build, image

compressai = pytest.importorskip("compressai")


@pytest.fixture
def coder():
    """CompressAI with fastlic's coder chosen for models built from now on."""
    register_entropy_coder()
    register_entropy_coder()
    compressai.set_entropy_coder("fastlic")
    yield
    compressai.set_entropy_coder("ans")


def test_the_coder_is_listed_once(coder):
    assert compressai.available_entropy_coders().count("fastlic") == 1
    assert compressai.get_entropy_coder() == "fastlic"


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "mbt2018-mean", "elic2022-official", "mbt2018-mean-vbr"])
def test_models_built_with_the_coder_write_the_same_streams(name, coder, model_of):
    x = image()
    with torch.no_grad():
        plain = model_of(name)
        compressai.set_entropy_coder("fastlic")
        chosen = build(name)
        coders = [module.entropy_coder.name for module in chosen.modules() if hasattr(module, "entropy_coder")]
        assert coders and set(coders) == {"fastlic"}
        chosen.load_state_dict(plain.state_dict())
        theirs, ours = plain.compress(x), chosen.compress(x)
        assert ours["strings"] == theirs["strings"]
        a = plain.decompress(ours["strings"], ours["shape"])["x_hat"]
        b = chosen.decompress(theirs["strings"], theirs["shape"])["x_hat"]
    assert torch.equal(a, b)
    assert not any(is_specialised(module) for module in chosen.modules())
    with pytest.raises(CorruptStreamError):  # CompressAI's own coder reads on beyond the end
        chosen.decompress([[item[:4] for item in part] for part in theirs["strings"]], theirs["shape"])


def test_copies_pickles_and_acceleration_of_such_models(coder):
    model, x = build("mbt2018-mean"), image()
    with torch.no_grad():
        strings = model.compress(x)["strings"]
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert twin.gaussian_conditional.entropy_coder.name == "fastlic"
            assert twin.compress(x)["strings"] == strings
        fastlic.accelerate(model)
        assert model.compress(x)["strings"] != strings
        fastlic.restore(model)
        assert model.compress(x)["strings"] == strings


def test_lists_are_taken_too(coder):
    """A caller of the coder itself, as Gaussian mixtures are."""
    from compressai.entropy_models.entropy_models import _EntropyCoder

    arguments = [0, 3, 1, 2], [[0, 100, 60000, 65535, 65536], [0, 30000, 40000, 65535, 65536]], [5, 5], [-1, 0]
    symbols = [0, 1, -7, 900]
    indexes, *tables = [0, 1, 1, 0], *arguments[1:]
    coders = [_EntropyCoder(name) for name in ("ans", "fastlic")]
    streams = [each.encode_with_indexes(symbols, indexes, *tables) for each in coders]
    assert streams[0] == streams[1]
    assert [each.decode_with_indexes(streams[0], indexes, *tables) for each in coders] == [symbols, symbols]


def test_a_rounding_of_ones_own_is_respected(coder):
    from compressai.entropy_models import GaussianConditional

    class Own(GaussianConditional):
        def quantize(self, inputs, mode, means=None):
            return super().quantize(inputs, mode, means) * 0 + (3 if mode == "symbols" else 0)

    own = Own(None)
    own.update_scale_table(torch.tensor([1.0, 2.0]))
    x, indexes = torch.randn(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.int32)
    assert (own.decompress(own.compress(x, indexes), indexes) == 3).all()


def run(module, *arguments):
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    for number in range(2):
        pixels = (image(1, 192, 192)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(np.roll(pixels, 50 * number, 0)[: 192 - 10 * number]).save(folder / f"{number}.png")
    torch.save(BUILDERS["mbt2018-mean"]().state_dict(), folder / "random.pth.tar")
    torch.save(build("mbt2018-mean").state_dict(), folder / "lively.pth.tar")
    return folder


def test_the_evaluation_tool_takes_the_same_arguments_and_finds_the_same_figures(checkpoint):
    arguments = ["checkpoint", checkpoint, "-a", "mbt2018-mean", "-p", checkpoint / "lively.pth.tar"]
    theirs, _ = run("compressai.utils.eval_model", *arguments)
    same, text = run("fastlic.integrations.compressai", "--format", "compressai", "eval_model", *arguments)
    native, report = run("fastlic.integrations.compressai", "eval_model", *arguments, "-d", checkpoint / "out")
    assert same["results"]["bpp"] == theirs["results"]["bpp"]
    assert "array coder" in text and "one-pass engine" in report
    for found in (same, native):
        assert found["name"] == theirs["name"]
        assert found["results"]["psnr-rgb"] == pytest.approx(theirs["results"]["psnr-rgb"], abs=0.05)
    assert 0.1 < native["results"]["bpp"][0] < 1.01 * theirs["results"]["bpp"][0]  # its escapes are cheaper
    assert json.loads((checkpoint / "out" / "mbt2018-mean-fastlic.json").read_text()) == native


def test_without_compressai_the_tool_says_so(tmp_path):
    script = (
        "import sys, runpy\n"
        "sys.modules['compressai'] = None\n"
        "sys.argv = ['x', 'eval_model', 'pretrained', '.', '-a', 'mbt2018']\n"
        "runpy.run_module('fastlic.integrations.compressai', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_example_runs_before_and_after(tmp_path):
    pixels = (image(1, 64, 128)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    Image.fromarray(pixels[:60, :100]).save(tmp_path / "photo.png")
    script = Path(__file__).resolve().parents[2] / "examples" / "compressai_roundtrip.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    sizes = []
    for way in ([], ["--fastlic"], ["--fastlic"]):
        command = [
            sys.executable,
            str(script),
            "--random",
            "--out",
            str(tmp_path / "out"),
            *way,
            str(tmp_path / "photo.png"),
        ]
        subprocess.run(command, check=True, env=environment)
        sizes.append((tmp_path / "out" / "photo.bin").stat().st_size)
        assert Image.open(tmp_path / "out" / "photo.png").size == (100, 60)
    assert sizes[1] == sizes[2]
    assert (tmp_path / "out" / "mbt2018.safetensors").exists()
