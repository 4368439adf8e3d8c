"""hf:// names: the hub's own cache serves them, and what is missing is told in words; no network anywhere."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import fastlic
from fastlic import light
from fastlic.codec import hub
from fastlic.errors import BackendUnavailable

TINY = Path(__file__).parents[1] / "golden" / "tiny_pixels_jahp.safetensors"


@pytest.fixture(autouse=True)
def asked_anew():
    hub._downloaded.cache_clear()
    yield
    hub._downloaded.cache_clear()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache as huggingface_hub lays it out, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    repository = tmp_path / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    (snapshot / "deep").mkdir(parents=True)
    for name in ("codec.safetensors", "deep/other.safetensors"):
        shutil.copy(TINY, snapshot / name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "name", ["hf://org/name", "hf://org/name@main", f"hf://org/name@{'0' * 40}/deep/other.safetensors"]
)
def test_a_name_on_the_hub_is_a_codec_of_both_apis(name, cache):
    expected = light.load(TINY).fingerprint
    assert light.load(name).fingerprint == expected
    assert fastlic.load(name).fingerprint == expected


@pytest.mark.parametrize("name", ["hf://org/name/none.safetensors", "hf://org/none", "hf://org/name@other"])
def test_what_the_hub_does_not_have_is_told_by_its_name(name, cache):
    for load in (light.load, fastlic.load):
        with pytest.raises(ValueError, match=name):
            load(name)


def test_repository_file_and_revision_reach_the_hub_once(monkeypatch):
    package = pytest.importorskip("huggingface_hub")
    calls = []

    def download(*args, **kwargs):
        calls.append((args, kwargs))
        return str(TINY)

    monkeypatch.setattr(package, "hf_hub_download", download)
    for _ in range(2):
        assert hub.fetched("hf://org/name@v1/a/b.safetensors") == TINY
    assert calls == [(("org/name", "a/b.safetensors"), {"revision": "v1"})]


@pytest.mark.parametrize("name", ["hf://", "hf://name", "hf://org/na me", "hf://org/name@"])
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(ValueError, match="hf://org/name"):
        hub.fetched(name)


def test_other_names_and_paths_pass_as_they_are():
    assert hub.fetched("jahp") == "jahp" and hub.fetched(TINY) == TINY


def test_a_missing_package_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for load in (light.load, fastlic.load):
        with pytest.raises(BackendUnavailable, match=r'pip install "fastlic\[hub\]"'):
            load("hf://org/name")
