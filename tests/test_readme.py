"""README keeps its word: every code block runs, its install lines are CI's, and nothing in it waits to be filled in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastlic.codec.calibration import PHOTO

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the examples expect to find: photo.png and a folder photos. Later blocks see the files of earlier ones."""
    return prepared(tmp_path_factory.mktemp("readme"))


def prepared(path: Path) -> Path:
    shutil.copy(PHOTO, path / "photo.png")
    (path / "photos").mkdir()
    shutil.copy(PHOTO, path / "photos")
    return path


def run(command: list[str], folder: Path) -> None:
    # One thread: the examples are small. The scripts of this interpreter come first, whatever else is installed.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The stubs stand in for packages that CompressAI imports and image models never use.
    stubs = str(ROOT / "tests" / "compat" / "stubs")
    modules = os.pathsep.join(filter(None, (stubs, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONPATH": modules}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_block_is_of_a_kind_that_is_tested():
    assert {kind for kind, _ in BLOCKS} == {"", "python", "bash"}


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "python"])
def test_python_blocks_run(code, folder):
    if "compressai" in code:
        pytest.importorskip("compressai")
    run([sys.executable, "-c", code], folder)


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "bash"])
def test_command_line_blocks_run(code, folder):
    # A run of two hours is cut to one step of a small model; everything else is executed as it stands.
    code = re.sub(r"--minutes \d+", "--steps 1 --N 8 --M 8 --batch 1", code)
    run(["bash", "-euo", "pipefail", "-c", code], folder)


def test_blocks_of_the_page_of_the_command_line_run(tmp_path):
    page = (ROOT / "docs" / "command-line.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == page.count("```") / 2
    # Whoever reads the head of a pipe alone leaves a command with exit code 1.
    run(["bash", "-eu", "-c", "".join(blocks)], prepared(tmp_path))
    assert sorted(path.name for path in tmp_path.rglob("*.flic")) == [
        "photo.flic",
        "photo.flic",
        "piped.flic",
        "small.flic",
    ]


def test_install_commands_are_those_of_ci():
    commands = [line for kind, code in BLOCKS if kind == "" for line in code.splitlines()]
    assert len(commands) == 2
    assert set(commands) <= set((ROOT / ".ci" / "run").read_text().splitlines())


def test_nothing_waits_to_be_filled_in():
    assert not re.search(r"TBD|TODO|to be (measured|named)", README)


def test_links_to_files_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_table_of_jahp_holds_the_measured_figures():
    rows = json.loads((ROOT / "docs/kodak.json").read_text())["averages"]
    lines = [
        f"| {r['quality']:.0f} | {r['bpp']:.3f} | {r['psnr']:.2f} | {r['ms_ssim_db']:.2f} |"
        for r in rows
        if r["codec"] == "jahp"
    ]
    assert len(lines) == 8
    assert [line for line in lines if line not in README] == []


def test_the_rates_at_equal_psnr_are_the_measured_ones():
    found = {
        (r["codec"], r["anchor"]): r["of_averages"]
        for r in json.loads((ROOT / "docs/kodak.json").read_text())["bd_rate"]
        if r["metric"] == "PSNR"
    }
    for anchor in ("JPEG", "WebP", "AVIF"):
        (line,) = [line for line in README.splitlines() if line.startswith(f"| against {anchor} ")]
        assert line.endswith(f"| {found['jahp', anchor]:+.1f} % | {found['mlic++', anchor]:+.1f} % |")
    assert f"{found['mlic++', 'jahp']:+.1f} % BD-rate" in README
    for anchor in ("JPEG", "WebP"):
        assert f"{-found['jahp', anchor]:.0f} % smaller than {anchor}s" in README.replace("\n", " ")


def test_the_table_of_the_gpu_holds_the_measured_figures():
    lines = (ROOT / "docs/kernels-h100.jsonl").read_text().splitlines()
    measured = {result["name"]: result for result in map(json.loads, lines)}
    table = README[README.index("## On a GPU") :]
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in table.splitlines() if line[:2] == "| "][
        1:7
    ]
    cases = (
        "jahp decode 512x768 persistent vs C++",
        "jahp decode 1080p persistent vs C++",
        "codebook m=2 d=64 1080p vs mcquic",
        "codebook m=12 d=16 1080p vs mcquic",
        "integer convolution 1080p vs float64",
        "rans decode M=192 1080p vs C++",
    )
    for case, (_, time, _, ratio) in zip(cases, rows, strict=True):
        milliseconds = 1e3 * measured[case]["seconds"]["median"]
        assert float(time.removesuffix(" ms")) == pytest.approx(milliseconds, rel=0.02), case
        assert ratio == f"{measured[case]['ratio']:.2g}x", case
