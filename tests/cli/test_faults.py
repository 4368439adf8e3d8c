"""What may go wrong around the command line: kills, full disks, odd outputs, vanishing inputs, signals, lost output.

The promise: under the final name is the old file, the whole new one, or nothing; the exit code and one line say why.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import fastlic
from fastlic import files
from fastlic.codec import image_files
from fastlic.codec.image_files import encode_image

PIXELS = torch.randint(0, 256, (3, 24, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model(tiny_codec_file) -> list[str]:
    return ["-m", str(tiny_codec_file), "-q", "2"]


@pytest.fixture
def inputs(tmp_path, tiny_codec) -> bytes:
    """a.png and b.png, and a.flic under another name; returns the bytes of the latter."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode_image(PIXELS.permute(1, 2, 0).numpy(), ".png"))
    data = tiny_codec.compress(PIXELS, 2)
    (tmp_path / "in.flic").write_bytes(data)
    return data


# ---- killed

_KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
import fastlic
from fastlic.cli.main import main

model, source, target, old = sys.argv[1:]
fastlic.load(model).compress(torch.zeros(3, 8, 8), 2)  # imports everything, once for all children


def count(event, arguments):
    global left
    if event in ("os.rename", "os.remove", "os.mkdir", "fsync") or event == "open" and ".fastlic-" in str(arguments[0]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def fsync(descriptor, call=os.fsync):
    count("fsync", ())
    call(descriptor)


for step in range(30):
    if old:
        with open(target, "w") as file:
            file.write(old)
    elif os.path.exists(target):
        os.remove(target)
    child = os.fork()
    if child == 0:
        left, os.fsync = step, fsync
        sys.addaudithook(count)
        command = ["compress", "-q", "2"] if target.endswith(".flic") else ["decompress"]
        sys.argv = ["fastlic", *command, source, target, "-m", model]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        main()
    status = os.waitpid(child, 0)[1]
    found = open(target, "rb").read().hex() if os.path.exists(target) else None
    print(os.waitstatus_to_exitcode(status), found)
    if os.WIFEXITED(status):
        break
"""


@pytest.mark.parametrize(("command", "old"), [("compress", "old"), ("decompress", "")])
def test_a_kill_at_any_step_leaves_the_old_file_or_the_whole_new_one(
    inputs, tiny_codec, tiny_codec_file, tmp_path, command, old
):
    source, target = ("a.png", "out.flic") if command == "compress" else ("in.flic", "out.png")
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tiny_codec_file), source, target, old],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = [line.split() for line in done.stdout.splitlines()]
    whole = inputs
    if command == "decompress":
        whole = encode_image(tiny_codec.decompress(inputs, dtype=torch.uint8).permute(1, 2, 0).numpy(), ".png")
    before = old.encode().hex() if old else "None"
    *killed, (code, last) = outcomes
    assert (code, last) == ("0", whole.hex())
    assert {code for code, _ in killed} == {str(-signal.SIGKILL)}
    kept = [found for _, found in killed].count(before)
    # Before the temporary file, before its fsync, before the rename; and after it.
    assert kept >= 3 and [found for _, found in killed] == [before] * kept + [whole.hex()] * (len(killed) - kept)
    assert len(killed) > kept


# ---- full


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_disk_that_fills_up_leaves_the_old_file(fastlic_command, inputs, model, tmp_path, command):
    source, target = ("a.png", "out.flic") if command == "compress" else ("in.flic", "out.png")
    (tmp_path / target).write_bytes(b"old")
    options = model if command == "compress" else model[:2]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        result = fastlic_command(command, source, target, *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (result.code, result.err) == (1, f"Error: {source}: {target}: File too large\n")
    assert (tmp_path / target).read_bytes() == b"old"
    assert list(tmp_path.glob(".fastlic*")) == []


def test_a_file_system_without_room_is_told_and_the_batch_goes_on(fastlic_command, inputs, model, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        (tmp_path / "big.flic").write_bytes(fastlic.load(model[1]).compress(torch.rand(3, 96, 96), 8))
        result = fastlic_command("decompress", "big.flic", "in.flic", "--output-dir", small, *model[:2], "--format=ppm")
        assert [path.name for path in small.iterdir()] == ["in.ppm"]
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert result.code == 1
    assert "small/big.ppm: No space left on device" in result.err
    assert "1 of 2 files" in result.out


# ---- odd outputs


def test_an_output_may_be_a_link_to_a_file_or_to_none_yet(fastlic_command, inputs, model, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real").write_bytes(b"old")
    for name in ("real", "later"):
        (tmp_path / f"{name}.flic").symlink_to(Path("there") / name)
        assert fastlic_command("compress", "a.png", f"{name}.flic", *model).code == 0
        assert (tmp_path / f"{name}.flic").is_symlink()
        assert (tmp_path / "there" / name).read_bytes() == inputs


def test_a_derived_name_makes_nothing_through_a_link_to_nowhere(fastlic_command, inputs, model, tmp_path):
    (tmp_path / "a.flic").symlink_to(tmp_path / "victim")
    result = fastlic_command("compress", "a.png", *model)
    assert (result.code, result.err) == (
        1,
        "Error: a.flic exists: --overwrite replaces, --skip-existing keeps what exists\n",
    )
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda path: path.symlink_to(path.name), 1, "Error: out.flic: Too many levels of symbolic links\n"),
        (lambda path: path.symlink_to("none/a"), 1, "Error: out.flic: there is no folder {here}/none\n"),
        (lambda path: path.mkdir(), 2, "Error: out.flic is a folder; use --output-dir out.flic\n"),
        (lambda path: path.symlink_to("."), 2, "Error: out.flic is a folder; use --output-dir out.flic\n"),
    ],
    ids=["links in circles", "a link into no folder", "a folder", "a link to a folder"],
)
def test_an_output_that_cannot_be_is_told_before_the_work(
    fastlic_command, inputs, model, tmp_path, monkeypatch, make, code, words
):
    make(tmp_path / "out.flic")
    monkeypatch.setattr(image_files, "read_image", None)  # never called
    result = fastlic_command("compress", "a.png", "out.flic", *model)
    assert result.code == code
    assert result.err.endswith(words.replace("{here}", os.path.realpath(tmp_path)))


def test_links_in_circles_are_told_as_inputs_and_as_derived_outputs(fastlic_command, inputs, model, tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "a.flic").symlink_to("a.flic")
    result = fastlic_command("compress", "loop.png", "a.png", "b.png", "--force", *model)
    assert result.code == 1
    assert result.err.splitlines() == [
        "Error: loop.png: Too many levels of symbolic links",
        "Error: a.png: a.flic: Too many levels of symbolic links",
    ]
    assert (tmp_path / "b.flic").read_bytes() == inputs


def test_outputs_may_be_devices_and_pipes(fastlic_command, inputs, model, tmp_path):
    assert fastlic_command("compress", "a.png", "-o", "/dev/null", *model).code == 0
    full = fastlic_command("compress", "a.png", "-o", "/dev/full", *model)
    assert (full.code, full.err) == (1, "Error: a.png: /dev/full: No space left on device\n")
    os.mkfifo(tmp_path / "pipe.flic")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe.flic").read_bytes()))
    reader.start()
    assert fastlic_command("compress", "a.png", "pipe.flic", *model).code == 0
    reader.join(30)
    assert read == [inputs]
    assert all(stat.S_ISCHR(os.stat(path).st_mode) for path in ("/dev/null", "/dev/full"))


def test_a_pipe_whose_reader_goes_is_told(fastlic_command, inputs, model, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.flic")
    reader = os.open(tmp_path / "pipe.flic", os.O_RDONLY | os.O_NONBLOCK)  # so that opening it to write does not wait

    def opened(*arguments):
        file = open(*arguments)  # noqa: SIM115 - the caller closes it
        os.close(reader)
        return file

    monkeypatch.setattr(files, "open", opened, raising=False)
    result = fastlic_command("compress", "a.png", "pipe.flic", *model)
    assert (result.code, result.err) == (1, "Error: a.png: pipe.flic: Broken pipe\n")


def test_a_folder_that_takes_no_files_is_told(fastlic_command, inputs, model):
    result = fastlic_command("compress", "a.png", "/proc/self/out.flic", *model)
    assert result.code == 1
    assert result.err.startswith("Error: a.png: /proc/self/out.flic: ")


# ---- odd inputs


def test_an_input_that_vanishes_after_the_planning_stops_nothing_else(
    fastlic_command, inputs, model, tmp_path, monkeypatch
):
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
    read = image_files.read_image

    def then_remove(path, *arguments, **options):
        (tmp_path / "b.png").unlink(missing_ok=True)
        return read(path, *arguments, **options)

    monkeypatch.setattr(image_files, "read_image", then_remove)
    result = fastlic_command("compress", "a.png", "b.png", "c.png", *model)
    assert (result.code, result.err) == (1, "Error: b.png: No such file or directory\n")
    assert (tmp_path / "a.flic").read_bytes() == (tmp_path / "c.flic").read_bytes() == inputs
    assert not (tmp_path / "b.flic").exists()


def test_a_folder_called_like_a_stream_is_a_folder(fastlic_command, tmp_path):
    (tmp_path / "x.flic").mkdir()
    assert fastlic_command("decompress", "x.flic").err == "Error: x.flic holds no image (.flic, .mcq)\n"
    assert "x.flic is a folder; --output takes one input" in fastlic_command("decompress", "x.flic", "x.png").err
    described = fastlic_command("info", "x.flic")
    assert (described.code, described.err) == (1, "Error: x.flic: Is a directory\n")


def test_names_of_any_bytes_are_read_written_and_printed_in_one_line(fastlic_command, inputs, model, tmp_path):
    names = [os.fsdecode(b"\xff\xfe"), "two\nlines", "\x1b[31mred", "h\xe9\u202etxt"]
    for name in names:
        shutil.copy(tmp_path / "a.png", tmp_path / f"{name}.png")
        (tmp_path / f"bad {name}.png").write_bytes(b"no image")
    result = fastlic_command("compress", *(f"{p}{n}.png" for n in names for p in ("", "bad ")), *model)
    assert result.code == 1
    assert all((tmp_path / f"{name}.flic").read_bytes() == inputs for name in names)
    assert len(result.out.splitlines()) == len(names) + 1 and len(result.err.splitlines()) == len(names)
    shown = ["\\udcff\\udcfe", "two\\nlines", "\\x1b[31mred", "h\xe9\\u202etxt"]
    for name, line, error in zip(shown, result.out.splitlines(), result.err.splitlines(), strict=False):
        assert line.startswith(f"{name}.png -> {name}.flic: ")
        assert error.startswith(f"Error: bad {name}.png: no image that Pillow can read")


# ---- signals


_CODES = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}
_WORDS = {signal.SIGHUP: "terminated\n", signal.SIGINT: "interrupted\n", signal.SIGTERM: "terminated\n"}


@pytest.mark.parametrize("number", list(_CODES))
@pytest.mark.parametrize("place", ["work", "fsync", "replace"])
def test_a_signal_ends_the_command_with_its_code_and_no_partial_file(
    fastlic_command, inputs, model, tmp_path, monkeypatch, number, place
):
    def signalled(call):
        def signalling(*arguments, **named):
            os.kill(os.getpid(), number)
            return call(*arguments, **named)

        return signalling

    target, name = (fastlic.light, "compress") if place == "work" else (os, place)
    monkeypatch.setattr(target, name, signalled(getattr(target, name)))
    result = fastlic_command("compress", "a.png", "b.png", *model)
    assert result.code == _CODES[number]
    assert result.err.strip("\n") == _WORDS[number].strip("\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "in.flic"]


@pytest.mark.parametrize("number", list(_CODES))
def test_a_signal_while_packages_are_imported_is_no_traceback(number, tmp_path):
    script = (
        "import os, signal, sys\n"
        "class Importing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'PIL': os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Importing())\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.argv = ['fastlic', 'compress', 'a.png']\n"
        "from fastlic.cli.main import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip("\n")) == (_CODES[number], _WORDS[number].strip("\n"))


# ---- lost output


def test_output_that_cannot_be_delivered_is_told_once(tmp_path):
    for arguments in (["--help"], ["--version"], ["compress", "--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "fastlic", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
            )
        assert (done.returncode, done.stderr) == (1, "Error: standard output: No space left on device\n")


def test_output_that_nobody_reads_ends_the_command_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "fastlic", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("lost", ["full", "unread", "closed"])
def test_a_batch_whose_output_is_lost_leaves_whole_files(fastlic_command, inputs, model, tmp_path, monkeypatch, lost):
    if lost == "closed":
        stdout = None
    elif lost == "full":
        stdout = open("/dev/full", "w")  # noqa: SIM115 - closed by what monkeypatch puts back
    else:
        reader, writer = os.pipe()
        os.close(reader)
        stdout = os.fdopen(writer, "w")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        result = fastlic_command("compress", "a.png", "b.png", *model)
    assert (tmp_path / "a.flic").read_bytes() == inputs
    assert list(tmp_path.glob(".fastlic*")) == []
    if lost == "closed":  # by whoever wants no words
        assert (result.code, result.err) == (0, "")
        assert (tmp_path / "b.flic").read_bytes() == inputs
    else:
        words = "Error: standard output: No space left on device\n" if lost == "full" else ""
        assert (result.code, result.err) == (1, words)
        assert not (tmp_path / "b.flic").exists()


# ---- the other commands


@pytest.fixture
def run_folder(tmp_path, photos) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "empty").mkdir()
    shutil.copy(photos / "chelsea.png", tmp_path / "data")
    return tmp_path / "run"


DEEP = "[" * 100_000
RECORD = {
    "codec": "tiny", "image": "a.png", "quality": 1.0, "height": 8, "width": 8, "size": 9, "psnr": 30.0,
    "ms_ssim": None, "compress_seconds": 0.1, "decompress_seconds": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", DEEP, '{"a":' * 50_000, '{"records": 3}', '{"records": []}', '{"records": [3]}',
        b"\xff\xfe\x00", b"\x89PNG\r\n", '{"records": [{}]}',
        *(
            json.dumps({"records": [{**RECORD, **wrong}]})
            for wrong in (
                {"height": 0}, {"size": -1}, {"width": "8"}, {"psnr": "x"}, {"psnr": float("nan")}, {"codec": 3},
                {"image": None}, {"quality": []}, {"size": 1e400}, {"size": 10**30}, {"same_latents": 1},
                {"compress_seconds": True}, {"ms_ssim": float("-inf")},
            )
        ),
    ],
)  # fmt: skip
def test_records_of_something_else_are_told(fastlic_command, photos, tiny_codec_file, tmp_path, content):
    (tmp_path / "r.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    result = fastlic_command("eval", photos, "-m", tiny_codec_file, "--records", "r.json", "--json", "out.json")
    assert result.code == 1
    assert result.err.startswith("Error: r.json ") and result.err.count("\n") == 1 and len(result.err) < 400
    assert not (tmp_path / "out.json").exists()


def test_records_of_other_codecs_are_reported_and_not_drawn(fastlic_command, photos, tiny_codec_file, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "r.json").write_text(json.dumps({"records": [{**RECORD, "codec": "other"}]}))
    options = ["eval", photos, "-m", tiny_codec_file, "--records", "r.json"]
    assert fastlic_command(*options, "--json", "/dev/null").code == 0
    result = fastlic_command(*options, "--plot", "out.svg")
    assert (result.code, result.err) == (1, "Error: there is nothing to draw: no record is of tiny\n")
    full = fastlic_command(*options, "--json", "/dev/full")
    assert (full.code, full.err) == (1, "Error: /dev/full: No space left on device\n")


def test_a_figure_of_a_folder_with_any_name_is_drawn(fastlic_command, inputs, tiny_codec_file, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / os.fsdecode(b"cost $a^ {b$ \xff\nline")
    folder.mkdir()
    shutil.copy(tmp_path / "a.png", folder / os.fsdecode(b"\xff$.png"))
    options = ["-m", tiny_codec_file, "--qualities", "1", "--peers", "", "--plot", "out.svg", "--json", "out.json"]
    result = fastlic_command("eval", folder, *options, "--no-ms-ssim")
    assert result.code == 0, result.err
    assert result.out.startswith(f"1 images of {tmp_path}/cost $a^ {{b$ \\udcff\\nline, ")
    assert (tmp_path / "out.svg").read_text().startswith("<?xml")
    assert json.loads((tmp_path / "out.json").read_text())["records"][0]["psnr"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["eval", "empty"], 1, "empty holds no image"),
        (["eval", "none"], 1, "none is not a folder"),
        (["eval", "bad"], 1, "bad/broken.png: no image that Pillow can read"),
        (["eval", "data", "--json", "none/out.json"], 1, "none/out.json: there is no folder none"),
        (["eval", "data", "--json", "empty"], 1, "empty: Is a directory"),
        (["eval", "data", "--records", "empty"], 1, "empty"),
        (["train", "--data", "bad", "--out", "new", "--steps", "1"], 1, "bad/broken.png: no image that Pillow can"),
        (["train", "--data", "data", "--out", "bad/broken.png", "--steps", "1"], 1, "bad/broken.png: File exists"),
        (["train", "--data", "data", "--out", "new", "--config", "c.toml"], 1, "lr must be of type float, got 'fast'"),
        (["train", "--data", "data", "--out", "new", "--config", "d.json"], 1, "d.json holds a JSON list"),
        (["train", "--data", "data", "--out", "new", "--config", "e.toml"], 1, "steps must not be negative, got -5"),
        (["train", "--data", "data", "--out", "new", "--config", "f.toml"], 1, "validate_every must be above 0"),
        (["train", "--data", "data", "--out", "new", "--config", "empty"], 1, "configurations are .toml or .json"),
        (["train", "--data", "tabs", "--out", "new", "--steps", "1"], 1, "TILES.tsv is no table of tabs"),
        (["train", "--data", "data", "--out", "run", "--steps", "1", "--resume"], 1, "run/config.json"),
        (["export", "run", "--data", "data", "-o", "out.json"], 2, "a codec file is NAME.safetensors"),
        (["export", "empty", "--data", "data", "-o", "out.safetensors"], 1, "no checkpoint at empty/best.pt"),
        (["export", "run", "--data", "data", "-o", "out.safetensors"], 1, "run/best.pt is no checkpoint"),
        (["export", "run", "--data", "data", "-o", "none/out.safetensors"], 1, "there is no folder none"),
        (["export", "run", "--data", "data", "-o", "out.safetensors", "--notes", "d.json"], 1, "d.json holds a JSON"),
        (["export", "run", "--data", "data", "-o", "out.safetensors", "--results", "none"], 1, "none: No such file"),
        (["demo", "--out", "bad/broken.png"], 1, "bad/broken.png: File exists"),
        (["info", "none.flic"], 1, "none.flic: No such file or directory"),
        (["info", "bad/broken.png"], 1, "this is no fastlic data"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_whatever_the_paths_lead_to_is_told_in_one_line(
    fastlic_command, run_folder, tiny_codec_file, tmp_path, arguments, code, words
):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.png").write_bytes(b"no image")
    (tmp_path / "tabs").mkdir()
    (tmp_path / "tabs" / "TILES.tsv").write_bytes(b"name\tfrom\nx\ty\n")
    shutil.copy(tmp_path / "data" / "chelsea.png", tmp_path / "tabs")
    (tmp_path / "c.toml").write_text('lr = "fast"\nsteps = 1\n')
    (tmp_path / "d.json").write_text("[1]")
    (tmp_path / "e.toml").write_text("steps = -5\n")
    (tmp_path / "f.toml").write_text("steps = 1\nvalidate_every = 0\n")
    for name in ("best.pt", "last.pt", "config.json"):
        (run_folder / name).write_bytes(b"\x80\x04garbage")
    small = ["--N", "8", "--M", "8", "--batch", "1", "--crop", "64"] if arguments[0] == "train" else []
    quick = ["-m", tiny_codec_file, "--qualities", "1", "--peers", ""] if arguments[0] == "eval" else []
    model = ["-m", tiny_codec_file] if arguments[0] == "demo" else []
    result = fastlic_command(*arguments, *small, *quick, *model)
    assert result.code == code
    assert words in result.err
    if code == 1:
        assert result.err.splitlines()[-1].startswith("Error: ")
