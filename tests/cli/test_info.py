"""``fastlic info`` and what every command shares."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import fastlic


@pytest.fixture
def stream(fastlic_command, photos, tiny_codec_file, tmp_path):
    fastlic_command("compress", photos / "astronaut.png", "a.flic", "-m", tiny_codec_file, "-q", 3)
    return tmp_path / "a.flic"


def test_a_file_is_described(fastlic_command, stream, tiny_codec):
    facts = json.loads(fastlic_command("info", stream, "--json").out)
    assert facts["model"] == "jahp"
    assert facts["fingerprint"] == tiny_codec.fingerprint.hex()
    assert (facts["width"], facts["height"], facts["quality"]) == (311, 233, 3)
    assert facts["bytes"] == stream.stat().st_size == facts["framing bytes"] + sum(facts["section bytes"])
    assert facts["framing bytes"] <= 48
    text = fastlic_command("info", stream)
    assert text.code == 0
    assert "fingerprint" in text.out


def test_standard_input_is_described_like_a_file(fastlic_command, stream, monkeypatch):
    expected = fastlic_command("info", stream, "--json").out
    with open(stream) as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert fastlic_command("info", "-", "--json").out == expected


def test_damage_behind_the_header_is_reported_with_the_header(fastlic_command, stream):
    stream.write_bytes(stream.read_bytes()[:-1])
    result = fastlic_command("info", stream)
    assert result.code == 1
    assert "311" in result.out
    assert "bytes are present" in result.out


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "it is empty"), (b"\x89PNG", "FLIC"), (b"FLIC\x09", "ends after 5")]
)
def test_other_files_are_refused(fastlic_command, tmp_path, content, message):
    (tmp_path / "a.flic").write_bytes(content)
    result = fastlic_command("info", "a.flic")
    assert result.code == 1
    assert result.err.startswith("Error: a.flic: ") and message in result.err


def test_without_a_file_the_installation_is_described(fastlic_command):
    facts = json.loads(fastlic_command("info", "--json").out)
    assert facts["version"] == fastlic.__version__
    assert facts["triton"]
    assert fastlic_command("info").code == 0


def test_threads_are_set_for_every_command(fastlic_command, monkeypatch):
    seen = []
    monkeypatch.setattr("torch.set_num_threads", seen.append)
    fastlic_command("--threads", 3, "info")
    assert seen[0] == 3
    assert fastlic_command("--threads", 0, "info").code == 2


def test_python_m_fastlic_is_the_command():
    done = subprocess.run([sys.executable, "-m", "fastlic", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"fastlic, version {fastlic.__version__}\n"


def test_a_failure_in_the_real_process_is_one_line(tmp_path):
    command = [sys.executable, "-m", "fastlic", "info", str(tmp_path / "none.flic")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"Error: {tmp_path / 'none.flic'}: No such file or directory\n"


def test_a_file_above_the_pixel_limit_is_described(fastlic_command, stream, monkeypatch):
    monkeypatch.setenv("FASTLIC_MAX_PIXELS", "1")
    assert json.loads(fastlic_command("info", stream, "--json").out)["width"] == 311
    assert fastlic_command("info", stream).code == 0
