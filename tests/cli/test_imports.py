"""What is told without work comes without torch: help, versions, wrong usage, completion, a stream's header."""

from __future__ import annotations

import os
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import fastlic
from fastlic.cli import compress, evaluate
from fastlic.cli.main import cli
from fastlic.codec import container, mcq
from fastlic.evaluate.peers import PEERS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
HEAVY = ("torch", "numpy", "PIL", "tqdm", "safetensors")


def loaded(*arguments: str, **environment: str) -> tuple[int, str, set[str]]:
    """Exit code and output of the command in a fresh process, and which of the heavy packages it imported."""
    script = (
        "import sys\n"
        "from fastlic.cli.main import main\n"
        "try:\n    main()\n"
        f"finally:\n    print('\\nloaded', *(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    code = f"import sys; sys.argv = ['fastlic', *{list(arguments)!r}]\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    said, _, packages = done.stderr.rpartition("\nloaded")
    assert "Traceback" not in said, said
    return done.returncode, done.stdout + said, set(packages.split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "decompress"),
        (["--version"], 0, f"fastlic, version {fastlic.__version__}"),
        (["nonesuch"], 2, "No such command 'nonesuch'"),
        (["compress"], 2, "Missing argument"),
        (["decompress", "a", "--bad"], 2, "No such option"),
        (["compress", "a.png", "--device", "toaster"], 2, "'toaster' is no device"),
        (["eval", ".", "--peers", "gif"], 2, "gif: peers are jpeg, webp, avif"),
    ],
)
def test_help_and_wrong_usage_import_nothing_heavy(arguments, code, words):
    got, text, packages = loaded(*arguments)
    assert (got, packages) == (code, set())
    assert words in text


def test_the_help_of_every_command_imports_nothing_heavy(fresh_process):
    # One process for all of them: what one imports, the next would show too.
    script = (
        "import sys\nfrom click.testing import CliRunner\nfrom fastlic.cli.main import cli\n"
        "for name in cli.commands:\n"
        "    done = CliRunner().invoke(cli, [name, '--help'])\n"
        "    assert done.exit_code == 0 and 'Usage:' in done.output, done.output\n"
        f"print(len(cli.commands), sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    assert fresh_process(script) == [f"{len(cli.commands)} []"]


def test_completion_imports_nothing_heavy():
    asked = {"_FASTLIC_COMPLETE": "bash_complete", "COMP_WORDS": "fastlic compress --bac", "COMP_CWORD": "2"}
    code, text, packages = loaded(**asked)
    assert (code, text.strip(), packages) == (0, "plain,--background", set())


@pytest.mark.parametrize(("file", "words"), [("astronaut_q4.5.flic", "quality"), ("mcquic_sample.mcq", "codebooks")])
def test_a_header_is_described_without_torch(file, words):
    if file.endswith(".mcq"):
        pytest.importorskip("msgpack")
    code, text, packages = loaded("info", str(GOLDEN / file))
    assert (code, packages) == (0, set())
    assert words in text and "section bytes" in text


def test_importing_fastlic_is_light_and_every_public_name_still_works(fresh_process):
    script = (
        "import sys, fastlic\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
        "from fastlic import *\n"
        "from fastlic import Codec as One\n"
        "from fastlic.codec import Codec as Other\n"
        "missing = [name for name in fastlic.__all__ if not hasattr(fastlic, name) or name not in globals()]\n"
        "print(missing, One is Other, set(fastlic.__all__) <= set(dir(fastlic)))\n"
        "print(fastlic.ops.__name__, fastlic.codec.container.SUFFIX, fastlic.errors.FastlicError.__name__)\n"
        "try:\n    fastlic.nonesuch\nexcept AttributeError as error:\n    print(error)\n"
    )
    assert fresh_process(script) == [
        "[]",
        "[] True True",
        "fastlic.ops .flic FastlicError",
        "module 'fastlic' has no attribute 'nonesuch'",
    ]


def test_help_shows_what_is_imported_on_demand():
    text = pydoc.render_doc(fastlic, renderer=pydoc.plaintext)
    assert "decompress(data: " in text and "class Codec" in text


def test_names_that_options_spell_out_are_those_of_the_library():
    formats = next(p.type.choices for p in compress.compress.params if p.name == "suffix")
    assert [f".{name}" for name in formats] == [container.SUFFIX, mcq.SUFFIX]
    assert list(PEERS) == list(evaluate._PEERS)


def test_images_are_compressed_and_decompressed_without_torch(tmp_path, photos):
    photo, stream = photos / "chelsea.png", tmp_path / "a.flic"
    for arguments in (
        ["compress", str(photo), str(stream)],
        ["decompress", str(stream), str(tmp_path / "a.png")],
        ["decompress", str(stream), str(tmp_path / "b.png"), "--jobs", "2", "--json"],
        ["--threads", "1", "compress", str(photo), str(stream), "--quiet"],
        ["view", str(stream), "--terminal"],
        ["demo", "--out", str(tmp_path)],
    ):
        code, text, packages = loaded(*arguments)
        assert code == 0, text
        assert "torch" not in packages and "PIL" in packages
