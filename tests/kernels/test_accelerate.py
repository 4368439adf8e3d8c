"""CompressAI's models under ``backend="triton"``: streams, latents and pixels of the C++ engines; what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn as nn

pytest.importorskip("compressai")

import fastlic
from fastlic.errors import BackendUnavailable
from fastlic.integrations.compressai.integers import CodingRate
from fastlic.ops import backends

from ..integrations import main_branch
from ..integrations.conftest import CALIBRATION, build, image
from ..integrations.grouped import grouped
from ..integrations.many_contexts import contextual
from ..integrations.sliced import sliced
from ..integrations.test_windows import DIM, Pair

X = image(1, 64, 64)


def both(model: Any, device: torch.device, path: Any, **options: Any) -> tuple[Any, Any, Any]:
    """The model on the C++ engines; on the device, with the same conversion; and that one's report."""
    on_cpu, on_device = model, copy.deepcopy(model).to(device)
    fastlic.accelerate(on_cpu, calibration=CALIBRATION, **options).save(path)
    return on_cpu, on_device, fastlic.accelerate(on_device, calibration=path, backend="triton", **options)


def rows_of(report: Any) -> dict[str, Any]:
    return {row.part: row for row in report.rows}


def coder_of(model: Any) -> Any:
    (made,) = (own.coder for own in (vars(m).get("_fastlic") for m in model.modules()) if own and own.coder)
    return made


@torch.no_grad()
def test_a_hyperprior_of_integers_runs_there_whole(device, tmp_path):
    on_cpu, on_device, report = both(build("bmshj2018-hyperprior"), device, tmp_path / "own", transforms="integer")
    rows = rows_of(report)
    assert rows["entropy path"].by == "integers, one-pass engine, triton"
    assert all(rows[f"transform {name}"].by == "integers, triton" for name in ("g_a", "h_a", "g_s"))
    assert not any("on the CPU" in row.note for row in report.rows)
    coded, expected = on_device.compress(X.to(device)), on_cpu.compress(X)
    assert coded["strings"] == expected["strings"] and coded["shape"] == expected["shape"]
    pixels = on_device.decompress(expected["strings"], expected["shape"])["x_hat"]
    assert pixels.device.type == device.type
    assert torch.equal(pixels.cpu(), on_cpu.decompress(coded["strings"], coded["shape"])["x_hat"])
    twin = pickle.loads(pickle.dumps(on_device))
    held = [vars(coder_of(own).integers).get("device_engine") for own in (on_device, twin)]
    assert held[0] is not None and held[1] is None and not coder_of(twin).device_lacks()


@torch.no_grad()
def test_batches_go_through_transforms_together_to_the_same_floats(device, tmp_path, batches):
    """On GPUs torch divides by a number in another way than by a tensor."""
    on_cpu, on_device, _ = both(build("bmshj2018-factorized"), device, tmp_path / "own", transforms="integer")
    x = image(2, 64, 64)
    y = on_cpu.g_a(x)
    assert torch.equal(on_device.g_a(x.to(device)).cpu(), y)
    assert torch.equal(on_device.g_s(y.to(device)).cpu(), on_cpu.g_s(y)) and batches == [2, 2]


@torch.no_grad()
def test_raster_latents_are_those_of_the_wavefront(device, tmp_path):
    on_cpu, on_device, report = both(build("mbt2018"), device, tmp_path / "own")
    assert rows_of(report)["entropy path"].by == "integers, wavefront engine, triton"
    y = on_cpu.g_a(X)
    z = on_cpu.h_a(y)
    *strings, y_hat = coder_of(on_cpu).encode(y, z)
    *found, latent = coder_of(on_device).encode(y.to(device), z.to(device))
    assert found == strings and latent.device.type == device.type and torch.equal(latent.cpu(), y_hat)


@pytest.mark.parametrize("name", ["mbt2018-mean-vbr", pytest.param("mbt2018-vbr", marks=pytest.mark.slow)])
@torch.no_grad()
def test_models_of_variable_rate_code_there_at_every_gain(name, device, tmp_path):
    on_cpu, on_device, report = both(build(name), device, tmp_path / "own")
    assert rows_of(report)["entropy path"].by.endswith(" engine, triton")
    y = 50 * on_cpu.g_a(X)
    z = 50 * on_cpu.h_a(y)
    for gain in (0.3, 1.0):
        rate = CodingRate(gain, True, True)
        assert coder_of(on_cpu).integers.at(*rate).offsets.any()
        *strings, y_hat = coder_of(on_cpu).encode(y, z, rate)
        *found, latent = coder_of(on_device).encode(y.to(device), z.to(device), rate)
        assert found == strings and latent.device.type == device.type and torch.equal(latent.cpu(), y_hat)
    assert torch.equal(coder_of(on_device).decode(*strings, 1, 1, rate).cpu(), y_hat)


@pytest.mark.parametrize("name", ["cheng2020-anchor-checkerboard", "groups"])
@torch.no_grad()
def test_boards_and_groups_code_there_hyper_analysis_too(name, device, tmp_path):
    model = grouped() if name == "groups" else build(name)
    on_cpu, on_device, report = both(model, device, tmp_path / "own")
    assert rows_of(report)["entropy path"].by == "integers, board engine, triton"
    y = on_cpu.g_a(X)
    strings, y_hat, size = coder_of(on_cpu).encode_passes(y, None)
    found, latent, _ = coder_of(on_device).encode_passes(y.to(device), None)
    assert found == strings and latent.device.type == device.type and torch.equal(latent.cpu(), y_hat)
    if name != "groups":  # which have many sections, slow in the interpreter
        assert torch.equal(coder_of(on_device).decode_passes(strings, *size).cpu(), y_hat)


@pytest.mark.slow
@torch.no_grad()
def test_slices_of_the_main_branch_code_there(device, tmp_path):
    with main_branch.codecs() as branch:
        model = contextual("mlic", branch)
        on_cpu, on_device = model, copy.deepcopy(model).to(device)
        branch.accelerate(on_cpu, calibration=CALIBRATION).save(tmp_path / "own")
        report = branch.accelerate(on_device, calibration=tmp_path / "own", backend="triton")
        assert rows_of(report)["entropy path"].by == "integers, 3 slices of MLIC, triton"
        y = on_cpu.g_a(X)
        z = on_cpu.latent_codec.h_a(y)
        *strings, y_hat = coder_of(on_cpu).encode(y, z)
        *found, latent = coder_of(on_device).encode(y.to(device), z.to(device))
        assert found == strings and torch.equal(latent.cpu(), y_hat)


@pytest.mark.slow
@torch.no_grad()
def test_hyper_latents_go_on_there_where_windows_do_not_fill_maps(device, tmp_path):
    from compressai.models import ScaleHyperprior

    torch.manual_seed(4)
    model = ScaleHyperprior(DIM, DIM).eval()
    model.update(force=True)
    model.h_a.insert(2, Pair().eval())  # of windows of 4, on maps of 4 x 6
    on_cpu, on_device, report = both(model, device, tmp_path / "own", transforms="integer")
    assert rows_of(report)["transform h_a"].by == "integers, triton"
    y = on_cpu.g_a(image(2, 64, 96))
    assert torch.equal(on_device.h_a(y.to(device)).cpu(), on_cpu.h_a(y))


@torch.no_grad()
def test_what_has_no_kernels_runs_on_the_cpu_and_is_named(device, tmp_path):
    model = build("bmshj2018-factorized")
    model.g_a = nn.Sequential(*model.g_a[:-1], nn.Conv2d(8, 8, 3, padding=1, groups=8), model.g_a[-1])
    on_cpu, on_device, report = both(model, device, tmp_path / "own", transforms="integer")
    rows = rows_of(report)
    assert rows["transform g_a"].by == rows["transform g_s"].by == "integers, triton"
    assert "on the CPU: kernels code" in rows["entropy bottleneck"].note
    y = on_device.g_a(X.to(device))
    assert y.device.type == device.type and torch.equal(y.cpu(), on_cpu.g_a(X))


@torch.no_grad()
def test_networks_of_channel_slices_run_there(device, tmp_path, batches):
    on_cpu, on_device, report = both(sliced(), device, tmp_path / "own", transforms="integer")
    assert rows_of(report)["entropy path"].by == "integers, 3 slices, triton"
    coded, expected = on_device.compress(X.to(device)), on_cpu.compress(X)
    assert coded["strings"] == expected["strings"]
    networks = len(coder_of(on_device).integers.networks)
    assert batches == [1] * (2 + networks)  # g_a and h_a
    pixels = on_device.decompress(expected["strings"], expected["shape"])["x_hat"]
    assert batches == [1] * (3 + 2 * networks)
    assert torch.equal(pixels.cpu(), on_cpu.decompress(coded["strings"], coded["shape"])["x_hat"])


@torch.no_grad()
def test_entropy_paths_without_an_engine_there_keep_that_of_the_cpu(device, tmp_path):
    model = build("mbt2018")
    model.entropy_parameters = nn.Sequential(*model.entropy_parameters[:2], nn.Conv2d(40, 24, 1))
    plain = copy.deepcopy(model)
    on_cpu, on_device, report = both(model, device, tmp_path / "own", transforms="integer")
    row = rows_of(report)["entropy path"]
    assert row.note.endswith("on the CPU: the device engine runs models with three parameter layers")
    assert "triton" not in row.by
    assert rows_of(report)["transform h_a"].by == "integers, triton"
    assert on_device.compress(X.to(device))["strings"] == on_cpu.compress(X)["strings"]
    with pytest.raises(BackendUnavailable, match=r"three parameter layers.*ask for transforms='integer'"):
        fastlic.accelerate(plain, calibration=CALIBRATION, backend="triton")
    assert not fastlic.restore(plain)


def test_models_nothing_of_which_runs_there_are_refused_in_words(device):
    model = build("bmshj2018-factorized")
    fastlic.accelerate(model)
    coded = model.compress(X)
    with pytest.raises(
        BackendUnavailable, match=r"this FactorizedPrior \(entropy bottleneck: kernels code .*'integer'"
    ):
        fastlic.accelerate(model, backend="triton")
    assert model.compress(X) == coded  # as it was accelerated before
    with pytest.raises(BackendUnavailable, match="ask for format='native', in which latents of integers have kernels"):
        fastlic.accelerate(build("mbt2018-mean"), "compressai", backend="triton")


def test_nothing_is_touched_where_kernels_cannot_run(monkeypatch):
    monkeypatch.setattr(backends, "triton_lacks", lambda: "no GPU was found")
    model = build("mbt2018-mean")
    with pytest.raises(BackendUnavailable, match="backend 'triton' is unavailable: no GPU was found"):
        fastlic.accelerate(model, backend="triton")
    assert not fastlic.restore(model)
