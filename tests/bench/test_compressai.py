"""The tables of CompressAI models: small models, the real path."""

from __future__ import annotations

import re

import pytest
import torch

pytest.importorskip("compressai.models")

from fastlic.bench import compressai as bench
from fastlic.lifelike.compressai import lively


def test_tables_hold_a_row_for_each_model_and_the_parts_add_up():
    x = torch.rand(1, 3, 64, 128)
    results = [bench.measure(name, lively(name, 16), x, 0.0, 1) for name in ("mbt2018", "elic2022-official")]
    for result in results:
        for key in ("plain", *bench.COPIES):
            for way in bench.WAYS:
                whole, *parts = (result.median(key, way, part) for part in ("whole", "transform", "coder", "entropy"))
                assert 0 < parts[0] < whole
                assert 0 < parts[1] <= parts[2] < whole
    support, figures, integer = (bench.table(results, part) for part in (bench.SUPPORT, bench.PARTS, bench.INTEGER))
    for table in (support, figures, integer):
        rows = table.splitlines()
        assert len(rows) == 4 and len({row.count("|") for row in rows}) == 1
    assert "wavefront" in support and "position by position" in support
    assert len(re.findall(r"\d\.\dx", figures.splitlines()[2])) < len(re.findall(r"\d\.\dx", figures.splitlines()[3]))


def test_models_are_chosen_by_name(capsys):
    assert bench.main(["mbt2019"]) == 2
    assert "mbt2018" in capsys.readouterr().err


def test_models_of_a_file_of_ones_own_are_measured(tmp_path, capsys):
    (tmp_path / "beside.py").write_text("SIZES = (8, 12)\n")
    file = tmp_path / "mine.py"
    file.write_text(
        "import beside\nfrom compressai.models import MeanScaleHyperprior\n"
        "def small():\n    model = MeanScaleHyperprior(*beside.SIZES)\n    model.update(force=True)\n    return model\n"
        "def none():\n    return 3\n"
    )
    assert bench.main(["--factory", f"{file}:small", "--least", "1", "--seconds", "0"]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^accelerate\(model.*\) itself, once for a model: small \d+\.\d s$", printed, re.M)) == 3
    (row,) = re.findall(r"^\| small \| .*$", printed, re.M)
    assert len(re.findall(r"\d\.\dx", row)) == 10 and "one-pass engine" in row
    for where, words in (
        (f"{file}:none", "gave int"),
        (f"{file}:more", "no function more"),
        ("a.py:b", "no such file"),
    ):
        assert bench.main(["--factory", where]) == 2
        assert words in capsys.readouterr().err


def test_bytes_are_compared_on_a_folder(photos, capsys):
    assert bench.main(["mbt2018-mean", "--bytes", str(photos), "--images", "1"]) == 0
    *_, row = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"\| mbt2018-mean \| [\d,]+ bytes \| [\d,]+ bytes \| [+-]\d+\.\d\d % \|", row)


def test_pictures_of_integers_are_compared_on_a_folder(photos, capsys):
    assert bench.main(["mbt2018-mean", "--psnr", str(photos), "--images", "1"]) == 0
    *_, row = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(
        r"\| mbt2018-mean (\| \d+\.\d+ dB ){2}\| [+-]0\.\d+ dB (\| [\d,]+ ){2}\| [+-]\d+\.\d\d % \|", row
    )


def test_without_compressai_there_is_nothing_to_measure_and_no_traceback(fresh_process):
    fresh_process(
        "import sys; sys.modules['compressai'] = None\nimport contextlib, io\n"
        "from fastlic.bench.compressai import main\n"
        "with contextlib.redirect_stderr(io.StringIO()) as said:\n    assert main(['mbt2018']) == 2\n"
        "assert 'cannot be imported' in said.getvalue()\n"
    )
