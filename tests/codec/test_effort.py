"""Effort: smaller files of the same format, never worse at the codec's own price of a bit; effort 0 changes nothing."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import fastlic
from fastlic import light
from fastlic.bench.effort import main
from fastlic.cli.main import cli
from fastlic.codec import effort as module
from fastlic.codec.calibration import PHOTO
from fastlic.codec.image_files import encode_image, read_image
from fastlic.codec.targets import psnr
from fastlic.models import McQuic
from fastlic.ops.backends import torch_threads

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def part() -> torch.Tensor:
    return read_image(PHOTO).pixels[:, 64:172, 100:228].contiguous()


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


def shown(codec, data):
    return codec.decompress([data], dtype=torch.uint8)[0]


@pytest.mark.parametrize(
    ("name", "efforts"),
    [
        ("jahp", range(1, 9)),
        ("mlic++", (1, 6)),
        ("mcquic", (3, 6)),
        pytest.param("jahp", (9,), marks=pytest.mark.slow),
    ],
)
def test_every_effort_decodes_and_costs_no_more_than_none(name, efforts, part):
    codec, quality = fastlic.load(name), 5.0
    files = {effort: codec.compress(part, quality, effort=effort) for effort in (0, *efforts)}
    price = module._worth(codec._coder, quality, 1, False).price
    costs = {n: 8 * len(data) + price * module.squared_error(shown(codec, data), part) for n, data in files.items()}
    assert all(costs[effort] <= costs[0] for effort in efforts), costs
    assert files[0] == codec.compress(part, quality)
    x = np.ascontiguousarray(part.permute(1, 2, 0).numpy())
    assert files[0] == light.compress(x, name, quality)
    assert np.array_equal(light.decompress(files[max(efforts)]), shown(codec, files[max(efforts)]).permute(1, 2, 0))


def test_more_effort_costs_less(part):
    codec, quality = fastlic.load("jahp"), 6.0
    price = module._worth(codec._coder, quality, 1, False).price
    costs = []
    for effort in (0, 3, 7):
        data = codec.compress(part, quality, effort=effort)
        costs.append(8 * len(data) + price * module.squared_error(shown(codec, data), part))
    assert costs == sorted(costs, reverse=True)
    assert costs[2] < costs[1] < costs[0]


@pytest.mark.parametrize("effort", [3, 6])
def test_the_same_pixels_make_the_same_file_again(effort, part):
    codec = fastlic.load("jahp")
    assert codec.compress(part, 3, effort=effort) == fastlic.compress(part, quality=3, effort=effort)
    both = torch.stack([part, part.flip(2)])
    assert codec.compress(both, 3, effort=effort)[0] == codec.compress(part, 3, effort=effort)


@pytest.mark.parametrize(("name", "effort"), [("jahp", 5), ("mcquic", 9)])
def test_efforts_of_integers_do_not_depend_on_threads(name, effort, part):
    codec = fastlic.load(name)
    one = codec.compress(part, 4, effort=effort)
    torch.set_num_threads(2)
    assert codec.compress(part, 4, effort=effort) == one


def test_mcquic_takes_words_that_cost_fewer_bits_under_the_context(part):
    codec = fastlic.load("mcquic")
    plain, chosen = (codec.compress(part, 2, effort=effort) for effort in (0, 1))
    assert len(chosen) < 0.97 * len(plain)
    errors = [module.squared_error(shown(codec, data), part) for data in (plain, chosen)]
    assert errors[1] < 1.02 * errors[0]
    finest = [codec.decode_latents(data)["codes_0"] for data in (plain, chosen)]
    assert not torch.equal(*finest)


def test_efforts_that_share_a_row_of_the_table_are_equal(part):
    codec = fastlic.load("mcquic")
    files = [codec.compress(part, 3, effort=effort) for effort in range(1, 10)]
    assert files[0] == files[1] and len({*files[2:5]}) == 1 and len({*files[5:]}) == 1


def test_floats_in_0_to_1_are_the_pixels_they_round_to(part):
    codec = fastlic.load("jahp")
    assert codec.compress(part / 255, 4, effort=1) == codec.compress(part, 4, effort=1)


def test_a_gradient_in_bands_is_the_whole_gradient(monkeypatch, part):
    monkeypatch.setattr(module.bfloat16, "supported", lambda device: False)
    coder = fastlic.load("jahp")._coder
    x = part.repeat(1, 4, 1)[:, :384]
    target = coder.analyse(x, 4.0, 1)
    latent = target.y.float() / 64
    error = 2 * (coder.pixels.synthesise(target.y, 4.0).float() - x.float())
    whole = module._error_gradient(coder.transforms, latent, error, 4.0)
    monkeypatch.setattr(module, "_BAND", 5)
    banded = module._error_gradient(coder.transforms, latent, error, 4.0)
    assert (whole - banded).abs().max() < 1e-4 * whole.abs().max()


@pytest.mark.parametrize("size", [(1, 1), (3, 85), (16, 16), (37, 113)])
def test_squared_errors_are_exact(size):
    a, b = (
        torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(n)) for n in (1, 2)
    )
    for x, y in ((a, b), (a * 0, a * 0 + 255)):
        assert module.squared_error(x, y) == int((x.long() - y.long()).square().sum())


def test_a_watcher_sees_each_step(part):
    seen = []
    token = module.WATCH.set(lambda done, of: seen.append((done, of)))
    try:
        fastlic.compress(part, quality=2, effort=6)
    finally:
        module.WATCH.reset(token)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_codec_that_made_an_effort_can_be_pickled(part):
    codec = fastlic.Codec.load(GOLDEN / "tiny_pixels_jahp.safetensors")
    data = codec.compress(part, 3, effort=7)
    assert pickle.loads(pickle.dumps(codec)).compress(part, 3, effort=7) == data


def test_targets_are_met_with_effort(part):
    data = fastlic.compress(part, target_bytes=900, effort=3)
    assert 890 <= len(data) <= 900
    x_hat = shown(fastlic.load("jahp"), fastlic.compress(part, target_psnr=30, effort=3))
    assert math.isclose(psnr(part.numpy(), x_hat.numpy()), 30, abs_tol=0.05)


def test_what_has_no_effort_says_so(part):
    x = np.ascontiguousarray(part.permute(1, 2, 0).numpy())
    for wrong in (10, -1, True, 2.0):
        with pytest.raises(ValueError, match="effort must be a whole number from 0 to 9"):
            fastlic.compress(part, effort=wrong)
    with pytest.raises(ValueError, match=r"fastlic\.light has effort 0 alone, got 3: fastlic\.compress"):
        light.compress(x, effort=3)
    with pytest.raises(ValueError, match="float transforms have effort 0 alone"):
        fastlic.compress(part, effort=3, transforms="float")
    with pytest.raises(ValueError, match="a McQuic codec without a context has effort 0 alone, got 1"):
        fastlic.Codec.load(GOLDEN / "tiny_pixels_mcquic.safetensors").compress(part, 2, effort=1)
    torch.manual_seed(0)
    one_rate = fastlic.Codec(McQuic(4, 2, [12, 6]).eval(), calibration=[part / 255])
    with pytest.raises(ValueError, match="a McQuic codec of one fixed rate has effort 0 alone, got 1"):
        one_rate.compress(part, effort=1)


@pytest.mark.parametrize("name", ["jahp", "mlicpp", "scale", "official"])
def test_efforts_serve_every_gaussian_family(name, part):
    codec = fastlic.Codec.load(GOLDEN / f"tiny_pixels_{name}.safetensors")
    small = part[:, :49, :70]
    for effort in (1, 7):
        data = codec.compress(small, 3, effort=effort)
        assert shown(codec, data).shape == small.shape


PAGE = (Path(__file__).parents[2] / "docs" / "effort.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
def test_examples_of_the_page_run(code, part, tmp_path, monkeypatch):
    (tmp_path / "photo.png").write_bytes(encode_image(part.permute(1, 2, 0).numpy(), ".png"))
    monkeypatch.chdir(tmp_path)
    exec(code, {})


def test_commands_of_the_page_run(part, tmp_path, monkeypatch):
    (tmp_path / "photo.png").write_bytes(encode_image(part.permute(1, 2, 0).numpy(), ".png"))
    monkeypatch.chdir(tmp_path)
    for line in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        cli.main(line.split()[1:], standalone_mode=False)
    assert (tmp_path / "photo.flic").stat().st_size > 100


def test_the_bench_compares_efforts(part, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(encode_image(part.permute(1, 2, 0).numpy(), ".png"))
    assert main([str(tmp_path), "--efforts", "1", "--qualities", "3", "6"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("| 1 | ")


def test_the_bench_compares_structure_too(tmp_path, capsys):
    pytest.importorskip("pytorch_msssim")
    (tmp_path / "a.png").write_bytes(
        encode_image(read_image(PHOTO).pixels[:, :161, :161].permute(1, 2, 0).numpy(), ".png")
    )
    options = ["--model", "mcquic", "--efforts", "1", "--qualities", "3", "6", "--ms-ssim"]
    assert main([str(tmp_path), *options]) == 0
    heads, _, row = (line.split("|") for line in capsys.readouterr().out.splitlines()[-3:])
    assert [head.strip() for head in heads[2:5:2]] == ["bytes at equal PSNR", "bytes at equal MS-SSIM"]
    assert row[4].strip().endswith("%")
