"""Weights in one file or in parts are read whole, whatever the number of parts and the characters of the name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fastlic.models.state_files import part_of, read_weights


def write_parts(path: Path, parts: int) -> None:
    for number in range(1, parts + 1):
        save_file({f"w{number}": torch.tensor([number])}, part_of(path, number, parts))


@pytest.mark.parametrize("stem", ["weights", "w[1]", "what?*"])
@pytest.mark.parametrize("parts", [2, 10, 12])
def test_weights_in_any_number_of_parts_under_any_name_are_read(tmp_path: Path, stem: str, parts: int):
    write_parts(tmp_path / f"{stem}.safetensors", parts)
    weights = read_weights(tmp_path / f"{stem}.safetensors")
    assert [(name, int(value)) for name, value in weights.items()] == [(f"w{n}", n) for n in range(1, parts + 1)]


def test_a_missing_part_is_told_with_the_number_of_those_there_are(tmp_path: Path):
    path = tmp_path / "w[1].safetensors"
    write_parts(path, 11)
    part_of(path, 4, 11).unlink()
    with pytest.raises(ValueError, match=r"no weights at .*; of its parts there are 10$"):
        read_weights(path)
    with pytest.raises(ValueError, match=r"no weights at .*other\.safetensors$"):
        read_weights(tmp_path / "other.safetensors")
