"""The native fuzz targets, under AddressSanitizer and UBSan, over their kept seeds and some mutations of them.

FASTLIC_FUZZ_SEED chooses other mutations, FASTLIC_FUZZ_SECONDS how long each target goes on, and FASTLIC_FUZZ_CORPUS a
folder of inputs that libFuzzer adds to from run to run, where clang++ is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"
TARGETS = sorted(path.stem for path in (FUZZ / "targets").glob("*.cpp"))
# Whole images or models: fewer runs than others.
SLOW = {"codes_decode": 1000, "models": 1000, "networks": 1000, "slices_decode": 300}
SEED = os.environ.get("FASTLIC_FUZZ_SEED", "7")
SECONDS = os.environ.get("FASTLIC_FUZZ_SECONDS", "")
CORPUS = os.environ.get("FASTLIC_FUZZ_CORPUS", "")
LIBFUZZER = bool(CORPUS) and shutil.which("clang++") is not None


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_keeps_seeds(target):
    with zipfile.ZipFile(FUZZ / "corpus" / f"{target}.zip") as seeds:
        assert len(seeds.namelist()) >= 20


@pytest.mark.parametrize(("target", "before"), [("container", 1), ("codec_streams", 2)])
def test_seeds_hold_every_kind_of_image_and_attachment(target, before):
    from fastlic.codec.container import look
    from fastlic.errors import CorruptStreamError

    found = set()
    with zipfile.ZipFile(FUZZ / "corpus" / f"{target}.zip") as seeds:
        for name in seeds.namelist():
            try:
                own = look(seeds.read(name)[before:])
            except CorruptStreamError:
                continue
            found |= {(own.version, own.channels)} | {(own.version, kind) for kind in own.attachment_bytes}
    assert found >= {(3, kind) for kind in (1, 2, 3, 4, "alpha", "icc_profile", "exif", "xmp")} | {(2, 3)}


def test_no_seed_is_left_of_a_target_that_is_gone():
    assert {path.stem for path in (FUZZ / "corpus").glob("*.zip")} == set(TARGETS)


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Path:
    # g++ even where clang is at hand: the standalone driver mutates the same way every time.
    compiler = "clang++" if LIBFUZZER else "g++"
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    out = tmp_path_factory.mktemp("fuzz")
    environment = {**os.environ, "CXX": compiler, "CXXFLAGS": "-Og -g1"}
    if LIBFUZZER:
        environment.pop("FUZZ_CORE", None)  # whose core does not tell libFuzzer where it has been
    command = [sys.executable, str(FUZZ / "build.py"), str(out)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, str(FUZZ / "seeds.py"), "unpack", str(out / "corpus")], check=True)
    return out


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_mutations_find_nothing(build, target):
    limits = [f"-seed={SEED}", f"-max_total_time={SECONDS}" if SECONDS else f"-runs={SLOW.get(target, 3000)}"]
    folders = [str(build / "corpus" / target)]
    if LIBFUZZER:
        grown = Path(CORPUS) / target
        grown.mkdir(parents=True, exist_ok=True)
        limits += [f"-dict={FUZZ / 'dictionaries' / 'numbers.dict'}", "-timeout=60", f"-artifact_prefix={grown}/"]
        folders.insert(0, str(grown))
    command = [str(build / target), *limits, *folders]
    print("replay:", *command)
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Done" in result.stderr if LIBFUZZER else "no finding" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("clang++") is None, reason="clang++ is not installed")
def test_the_script_for_oss_fuzz_builds_every_target_with_seeds_and_words(tmp_path):
    own = {
        "CXX": "clang++",
        "CXXFLAGS": "-O1 -fsanitize=fuzzer-no-link,address",
        "LIB_FUZZING_ENGINE": "-fsanitize=fuzzer",
    }
    environment = {**os.environ, **own, "OUT": str(tmp_path), "PYTHON": sys.executable, "WORK": str(tmp_path / "work")}
    script = ["bash", str(FUZZ / "oss-fuzz" / "build.sh")]
    subprocess.run(script, check=True, env=environment, stdout=subprocess.DEVNULL)
    for target in TARGETS:
        assert (tmp_path / f"{target}.dict").is_file()
        with zipfile.ZipFile(tmp_path / f"{target}_seed_corpus.zip") as seeds:
            seeds.extractall(tmp_path / "seeds" / target)
        words = f"-dict={tmp_path / target}.dict"
        command = [str(tmp_path / target), "-runs=50", "-seed=1", words, str(tmp_path / "seeds" / target)]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
        assert result.returncode == 0 and "Done" in result.stderr, result.stderr[-4000:]
