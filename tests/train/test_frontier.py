"""The command that draws products against bits of narrow entropy networks."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch

from fastlic.codec.image_files import encode_image
from fastlic.models import JAHP
from fastlic.train import config, frontier
from fastlic.train.data import load_tiles
from fastlic.train.weights import read_state


def test_narrow_networks_are_fitted_measured_and_written_as_a_run(tmp_path: Path, capsys, monkeypatch):
    small = {"N": 6, "M": 12, "widths": [4, 4, 6]}
    recipe = {**config.recipe("jahp"), "model": small, "objective": {"lambdas": [0.001 * 2**k for k in range(8)]}}
    monkeypatch.setattr(frontier, "recipe", lambda family: recipe)
    monkeypatch.setattr(frontier, "_HELD_OUT", 2)
    torch.manual_seed(1)
    wide = JAHP(6, 12, (4, 4, 6), 8)
    torch.save({"model": wide.state_dict()}, tmp_path / "wide.pt")
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(60):  # of which some are held out, by name
        pixels = torch.randint(0, 256, (256, 256, 3), dtype=torch.uint8).numpy()
        (photos / f"{number}.bmp").write_bytes(encode_image(pixels, ".bmp"))
    monkeypatch.setattr(frontier, "load_tiles", partial(load_tiles, validation_share=0.2))
    sizes = ["7,9,11/10/16,14", "6,8,10/8/12,12"]
    run = tmp_path / "run"
    assert frontier.main([str(tmp_path / "wide.pt"), "--data", str(photos), "--sizes", *sizes, "--run", str(run)]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == sizes
    assert all(re.fullmatch(r"\| 0\.0\d M \| [\d,/]+ (\| (-?\d+\.\d\d(, )?){5} ){2}\|", row) for row in rows)
    narrow = JAHP.from_state_dict(read_state(run / "best.pt"))
    assert narrow.sizes.all == (6, 8, 10, 8, 12, 12)
    assert torch.equal(narrow.state_dict()["g_a.0.weight"], wide.state_dict()["g_a.0.weight"])


@pytest.mark.parametrize("text", ["96,96,128", "a/b/c", "96/128,1/3", "1,2,3/4/x,6"])
def test_sizes_of_another_form_are_refused_in_words(text):
    with pytest.raises(ValueError, match="sizes are h_s,h_s,h_s/context/first,second, got"):
        frontier.sizes_of(text)
