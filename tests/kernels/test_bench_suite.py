"""The suite of kernels at sizes that take no time: every case is set up, compared and run once, as on a GPU."""

from __future__ import annotations

import pytest
import torch

from fastlic.bench.suites import kernels as suite
from fastlic.entropy.convert import convert
from fastlic.models import JAHP
from fastlic.ops.device_engine import DeviceEngine


@pytest.fixture(scope="module")
def tiny(device):
    torch.manual_seed(1)
    model = JAHP(6, 12, (8, 8, 8)).eval()
    model.entropy_parameters[-1].bias.data = torch.cat([torch.logspace(-1, 1, 12), torch.linspace(-3, 3, 12)])
    entropy = convert(model, [torch.rand(3, 96, 128)])
    return entropy, DeviceEngine(entropy.to_arrays(), entropy.z_tables, entropy.y_tables, device)


@pytest.mark.slow
def test_every_case_of_a_gpu_runs(tiny, monkeypatch, capsys):
    monkeypatch.setattr(suite, "on_gpu", lambda: True)
    monkeypatch.setattr(suite, "LATENTS", {"tiny": (1, 3)})
    monkeypatch.setattr(suite, "M", 12)
    monkeypatch.setattr(suite, "CODEBOOKS", {"small": (2, 16, 40)})
    monkeypatch.setattr(suite, "device_model", lambda: tiny)
    found = []
    for case in suite.cases(lambda name: "MLIC" not in name and "CompressAI" not in name):
        case.run()
        assert case.peer is not None
        case.peer()
        found.append(case.name)
    assert capsys.readouterr().err == ""
    for kind in (
        "codebook",
        "quantise",
        "integer context",
        "integer convolution",
        "transform",
        "rans",
        "jahp",
        "mlic++",
    ):
        assert any(name.startswith(kind) for name in found), kind
    assert len(found) > 12


def test_one_groups_failure_is_told_and_leaves_the_others(device, monkeypatch, capsys):
    def broken(wanted):
        raise RuntimeError("no such device")
        yield

    monkeypatch.setattr(suite, "on_gpu", lambda: True)
    monkeypatch.setattr(suite, "codebook_cases", broken)
    monkeypatch.setattr(suite, "LATENTS", {"tiny": (1, 3)})
    names = [case.name for case in suite.cases(lambda name: name.startswith(("codebook", "quantise")))]
    assert names and all(name.startswith("quantise") for name in names)
    assert "no such device" in capsys.readouterr().err
