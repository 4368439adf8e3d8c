"""The suite of kernels at sizes that take no time: every case is set up, compared and run once, as on a GPU."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
import torch

from fastlic.bench import gpu, steps
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
    for case in suite.cases(lambda name: not any(part in name for part in ("MLIC", "CompressAI"))):
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
        "step",
        "rans",
        "jahp",
        "mlic++",
        "mlic+ ",
    ):
        assert any(name.startswith(kind) for name in found), kind
    assert len(found) > 12


@pytest.mark.parametrize("name", steps.STEPS)
def test_every_step_of_networks_has_a_row_beside_the_cpus_engine(name, device, monkeypatch, capsys):
    """Numbers are compared when a row is made."""
    monkeypatch.setattr(suite, "on_gpu", lambda: True)
    monkeypatch.setattr(suite, "LATENTS", {"tiny": (2, 3)})
    monkeypatch.setattr(suite, "M", 6)
    (case,) = suite.cases(lambda row: row == f"step {name} M=192 tiny vs C++")
    assert case.peer is not None and case.peer_name == suite.CPU
    assert "equal to the reference" in case.note and capsys.readouterr().err == ""
    assert case.traffic == case.repeats * steps.problem(name, 6).traffic * (64 if "windows" in name else 6)


def test_steps_are_all_that_networks_have_beside_layers(device):
    from fastlic.integers import network

    made = {type(steps.problem(name, 6).network.steps[0]) for name in steps.STEPS}
    assert made == {cls for cls, *_ in network._STEPS} - {network.LayerStep}


def test_rows_of_a_gpu_are_listed_and_compiled_beforehand(monkeypatch):
    monkeypatch.setattr(suite, "on_gpu", lambda: True)
    names: list[str] = []
    assert list(suite.cases(lambda name: bool(names.append(name)))) == []
    assert len(names) == len(set(names))
    assert [name for name in names if not any(fnmatch(name, pattern) for pattern in gpu.WARM)] == []


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
