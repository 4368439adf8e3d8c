"""README and pages keep their word: code blocks run, figures are the measured ones, links lead somewhere.

A block that no test can run here has a line before it, ``<!-- not run: reason -->``; ``NOT_RUN`` counts them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastlic

from .pages import ROOT, blocks_of, prepared, run

README = (ROOT / "README.md").read_text()
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
# How many blocks of Python or shell a page has that are not run: a GPU, Kodak, minutes, other compilers.
NOT_RUN = {
    "docs/benchmarks.md": 2,
    "docs/browser.md": 1,
    "docs/compressai.md": 5,
    "docs/gallery.md": 8,
    "docs/gpu.md": 6,
    "docs/kernels.md": 1,
    "docs/libflic.md": 2,
    "docs/limits.md": 1,
    "docs/mlic.md": 3,
    "docs/start.md": 1,
    "docs/training-history.md": 6,
    "docs/training.md": 3,
    "docs/your-model.md": 3,
}
# Pages whose blocks take more than a moment.
SLOW_PYTHON = {"docs/compressai.md", "docs/mcquic.md", "docs/mlic.md"}
QUICK_SHELL = {"README.md", "docs/start.md", "docs/folder.md"}


BLOCKS = [block for page, text in PAGES.items() for block in blocks_of(page, text)]
# Pages whose blocks run in another way: one after the other below, or in processes of their own (tests/batch).
ELSEWHERE = {"docs/command-line.md", "docs/scale.md"}
HERE = [block for block in BLOCKS if block.runs and block.page not in ELSEWHERE]
SHELL = [block for block in HERE if block.kind == "bash"]
PYTHON = list(dict.fromkeys(block.page for block in HERE if block.kind == "python"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the examples expect to find: photo.png, a folder photos, and what the gallery takes of the repository.

    Later blocks see the files of earlier ones.
    """
    path = prepared(tmp_path_factory.mktemp("readme"))
    for name in ("examples", "tests/images", "fastlic/data", "docs/tools", "docs/pictures"):
        shutil.copytree(ROOT / name, path / name)
    for name in ("kodak.json", "kernels-h100.jsonl"):
        shutil.copy(ROOT / "docs" / name, path / "docs")
    return path


@pytest.fixture
def published(folder):
    """A checkpoint of McQuic under the name that docs/mcquic.md has."""
    from fastlic.models.mcquic import McQuic, save_published

    save_published(McQuic(channel=16, m=2, k=[64, 32, 16]), folder / "qp_2_msssim.mcquic")


def test_every_block_is_of_a_kind_that_is_tested():
    assert {block.kind for block in BLOCKS if block.page == "README.md"} == {"", "python", "bash"}
    # Text is what programs print, and layouts; tests/libflic compiles C and runs the console's lines, tests/wasm HTML.
    pages = {block.kind for block in BLOCKS if block.page != "README.md"}
    assert pages <= {"python", "bash", "text", "console", "c", "html"}


def test_the_blocks_that_are_not_run_are_counted():
    found: dict[str, int] = {}
    for block in BLOCKS:
        if not block.runs:
            found[block.page] = found.get(block.page, 0) + 1
    assert found == NOT_RUN


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW_PYTHON)) for page in PYTHON]
)
def test_python_blocks_run(page, folder, published, monkeypatch):
    """README's each for itself; those of a page one after the other, with the names of the ones before."""
    monkeypatch.chdir(folder)
    blocks = [block for block in BLOCKS if block.page == page and block.kind == "python" and block.runs]
    names: dict[str, object] = {}
    for block in blocks:
        if "compressai" in block.code:
            pytest.importorskip("compressai")
        names = {} if page == "README.md" else names
        block.execute(names)
    if "compressai.set_entropy_coder" in PAGES[page]:  # which outlives the page
        sys.modules["compressai"].set_entropy_coder("ans")


@pytest.mark.parametrize(
    "block",
    [pytest.param(b, marks=[pytest.mark.slow] * (b.page not in QUICK_SHELL), id=str(b)) for b in SHELL],
)
def test_command_line_blocks_run(block, folder, published):
    # A run of two hours is cut to one step of a small model; everything else is executed as it stands.
    code = re.sub(r"--minutes \d+", "--steps 1 --N 8 --M 8 --batch 1", block.code)
    shutil.rmtree(folder / "packed", ignore_errors=True)
    shutil.rmtree(folder / "unpacked", ignore_errors=True)
    if block.page == "docs/training.md" and "fastlic train" in code:
        shutil.rmtree(folder / "run", ignore_errors=True)
    for file in ("small.flic", "small.png"):
        (folder / file).unlink(missing_ok=True)
    # The stubs stand in for packages that CompressAI imports and image models never use.
    paths = [str(ROOT / "tests" / "compat" / "stubs"), *filter(None, [os.environ.get("PYTHONPATH")])]
    run(["bash", "-euo", "pipefail", "-c", code], folder, PYTHONPATH=os.pathsep.join(paths))


def test_blocks_of_the_page_of_the_command_line_run(tmp_path):
    blocks = [block for block in BLOCKS if block.page == "docs/command-line.md"]
    assert {block.kind for block in blocks} == {"bash"}
    # Whoever reads the head of a pipe alone leaves a command with exit code 1.
    run(["bash", "-eu", "-c", "".join(block.code for block in blocks)], prepared(tmp_path))
    found = sorted(path.name for path in tmp_path.rglob("*.flic"))
    assert found == ["photo.flic", "photo.flic", "piped.flic", "small.flic"]


def test_all_errors_are_in_the_table_of_the_python_page():
    own = {error.__name__ for error in fastlic.errors.FastlicError.__subclasses__()}
    own = {name for name in own if hasattr(fastlic.errors, name)}
    assert own == set(re.findall(r"^\| `fastlic\.errors\.(\w+)`", PAGES["docs/python.md"], re.MULTILINE))


def test_install_commands_are_those_of_ci():
    commands = [line for block in BLOCKS if block.kind == "" for line in block.code.splitlines()]
    assert len(commands) == 2
    assert set(commands) <= set((ROOT / ".ci" / "run").read_text().splitlines())


def test_readme_stays_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_nothing_waits_to_be_filled_in(page):
    assert not re.search(r"TBD|TODO|to be (measured|named)", PAGES[page])


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)#]+)[)#]", PAGES[page]) if "://" not in link]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_pages_end_in_a_newline_and_fit_120_columns(page):
    text = PAGES[page]
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert [line for line in text.splitlines() if len(line) > 120 and not line.lstrip().startswith("|")] == []


def test_every_page_is_in_the_site():
    nav = (ROOT / "mkdocs.yml").read_text()
    pages = [page.removeprefix("docs/") for page in PAGES if page != "README.md"]
    assert [page for page in pages if not re.search(rf"^ *- (.*: )?{re.escape(page)}$", nav, re.MULTILINE)] == []


def test_the_api_has_every_public_operation():
    page = PAGES["docs/api/ops.md"]
    documented = {line.rsplit(".", 1)[1] for line in page.splitlines() if line.startswith("::: ")}
    assert documented == set(fastlic.ops.__all__)


def test_the_api_has_every_public_name():
    pages = "".join(text for page, text in PAGES.items() if page.startswith("docs/api/"))
    entries = {line.rsplit(".", 1)[1] for line in pages.splitlines() if line.startswith("::: ")}
    assert set(fastlic.__all__) - {"__version__"} <= entries
    assert set(fastlic.models.__all__) - {"FAMILIES"} <= entries  # a dictionary, which the page names


def test_messages_on_the_page_of_symptoms_are_those_of_the_code():
    files = [*ROOT.glob("fastlic/**/*.py"), *ROOT.glob("csrc/fastlic/**/*.cpp")]
    source = "".join(file.read_text() for file in files)
    source = re.sub(r'"\n\s*f?"', "", source)  # messages of several lines
    rows = [line.split("|")[1] for line in PAGES["docs/debugging.md"].splitlines() if line.startswith("| ")]
    quoted = [code for row in rows for code in re.findall(r"`([^`]*)`", row)]
    names = {
        "fastlic",
        "fastlic.light",
        "fork",
        "file:",
        ".mcq",
        'transforms="float"',
        "cannot import name '_native'",  # Python's own words
    }
    said = [code for code in quoted if not code.endswith("Error") and code not in names | {"BackendUnavailable"}]
    assert len(said) >= 15
    assert [code for code in said if code not in source] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fastlic.api.compress" in (tmp_path / "api" / "fastlic.html").read_text()


def test_plots_are_drawn_of_the_json_that_is_there():
    image = pytest.importorskip("PIL.Image")
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "tools" / "figures.py")
    pytest.importorskip("matplotlib")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    for name, (source, _) in figures.FIGURES.items():
        digest = hashlib.sha256((ROOT / "docs" / source).read_bytes()).hexdigest()
        with image.open(ROOT / "docs" / "pictures" / f"{name}.png") as picture:
            assert picture.text["Source"] == f"{source} sha256:{digest}", "run python docs/tools/figures.py docs"


def averages(codec: str) -> list[dict]:
    rows = json.loads((ROOT / "docs/kodak.json").read_text())["averages"]
    return [row for row in rows if row["codec"] == codec]


def test_the_table_of_jahp_holds_the_measured_figures():
    lines = [
        f"| {r['quality']:.0f} | {r['bpp']:.3f} | {r['psnr']:.2f} | {r['ms_ssim_db']:.2f} |" for r in averages("jahp")
    ]
    assert len(lines) == 8
    assert [line for line in lines if line not in PAGES["docs/benchmarks.md"]] == []


@pytest.mark.parametrize("page", ["README.md", "docs/models.md"])
def test_the_table_of_models_holds_the_measured_figures(page):
    middle = [next(r for r in averages(model) if r["quality"] == 4) for model in ("jahp", "mlic++", "mcquic")]
    sizes = " | ".join(f"{r['bpp'] * 512 * 768 / 8:,.0f}" for r in middle)
    psnr = " | ".join(f"{r['psnr']:.2f}" for r in middle)
    assert re.search(rf"^\| .*bytes.* \| {re.escape(sizes)} \|$", PAGES[page], re.MULTILINE), sizes
    assert f"| PSNR there, dB | {psnr} |" in PAGES[page]


def test_the_tables_of_ms_ssim_hold_the_measured_figures():
    page, name = PAGES["docs/benchmarks.md"], "jahp-ms-ssim"
    rates = json.loads((ROOT / "docs/kodak.json").read_text())["bd_rate"]
    found = {(r["anchor"], r["metric"]): r["of_averages"] for r in rates if r["codec"] == name}
    for anchor, shown in (("jahp", "`jahp`"), ("JPEG", "JPEG"), ("WebP", "WebP"), ("AVIF", "AVIF")):
        cells = " | ".join(f"{found[anchor, metric]:+.1f} %" for metric in ("MS-SSIM", "PSNR"))
        assert f"| {shown} | {cells} |" in page
    lines = [
        f"| {r['quality']:.0f} | {r['bpp']:.3f} | {r['psnr']:.2f} | {r['ms_ssim_db']:.2f} |" for r in averages(name)
    ]
    assert len(lines) == 8 and all(line in page for line in lines)
    for other in (README, PAGES["docs/index.md"]):
        words = other.replace("\n", " ")
        assert f"`{name}`, trained for it, needs {-found['AVIF', 'MS-SSIM']:.0f} % fewer" in words


def test_what_stands_in_two_pages_is_the_same():
    benchmarks, models = PAGES["docs/benchmarks.md"], PAGES["docs/models.md"]
    seconds = []
    for model in ("jahp", "mlic++", "mcquic"):
        row = re.search(rf"^\| `{re.escape(model)}` compress, decompress \| (\d+), (\d+) ms", benchmarks, re.MULTILINE)
        assert row[0] in PAGES["docs/transforms.md"]
        seconds.append(f"{int(row[1]) / 1000:.3f}, {int(row[2]) / 1000:.3f}")
    for page in (README, models):
        assert f"photo, seconds | {' | '.join(seconds)} |" in page
    rows = re.findall(r"^\| `[\w+]*` \| (\d+) MB \| (\d+) MB \|$", PAGES["docs/limits.md"], re.MULTILINE)
    memory = " | ".join(f"{a}, {b}" for a, b in rows)
    for page in (README, models):
        assert f"decompress, MB | {memory} |" in page


def test_the_rates_at_equal_psnr_are_the_measured_ones():
    rows = json.loads((ROOT / "docs/kodak.json").read_text())["bd_rate"]
    found = {(r["codec"], r["anchor"], r["metric"]): r["of_averages"] for r in rows}
    benchmarks = PAGES["docs/benchmarks.md"]
    for page in (README, benchmarks):
        for anchor in ("JPEG", "WebP", "AVIF"):
            (line,) = [line for line in page.splitlines() if line.startswith(f"| against {anchor} ")]
            jahp, mlic = (found[codec, anchor, "PSNR"] for codec in ("jahp", "mlic++"))
            assert line.endswith(f"| {jahp:+.1f} % | {mlic:+.1f} % |")
    assert f"{found['mlic++', 'jahp', 'PSNR']:+.1f} % BD-rate" in benchmarks
    for page in (README, PAGES["docs/index.md"]):
        words = page.replace("\n", " ")
        assert f"{-found['jahp', 'JPEG', 'PSNR']:.0f} % smaller than JPEGs" in words
        assert f"{-found['jahp', 'WebP', 'PSNR']:.0f} % smaller than WebPs" in words
        assert f"{-found['jahp', 'AVIF', 'PSNR']:.0f} % smaller than AVIFs (Pillow, speed 6, 4:2:0)" in words
        assert f"{found['jahp', 'AVIF', 'MS-SSIM']:.0f} % more bits than that AVIF" in words


def test_the_table_of_the_gpu_holds_the_measured_figures():
    lines = (ROOT / "docs/kernels-h100.jsonl").read_text().splitlines()
    measured = {result["name"]: result for result in map(json.loads, lines)}
    table = PAGES["docs/gpu.md"].partition("## On one H100")[2]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:7]
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in lines]
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
