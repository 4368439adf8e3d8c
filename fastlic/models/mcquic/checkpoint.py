"""Files that McQuic 0.1.40 published (``.mcquic``) and wrote in training (``.ckpt``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastlic.errors import CodecFileError
from fastlic.files import written_whole
from fastlic.models.mcquic.model import McQuic
from fastlic.models.state_files import MALFORMED, read_checkpoint

PUBLISHED_SUFFIXES = (".mcquic", ".ckpt")
_WRAPPED = "module._compressor."


def load_published(path: str | Path) -> McQuic:
    """The model in a ``.mcquic`` or ``.ckpt`` file of McQuic, in eval mode.

    The file is a pickle. Only tensors and plain containers are read from it; nothing in it is executed.

    Raises:
        FileNotFoundError: no such file.
        CodecFileError: no such checkpoint, or one with content beyond tensors and plain containers.
    """
    path = Path(path)
    content = read_checkpoint(path)
    try:
        return McQuic.from_state_dict(_state(content))
    except MALFORMED as error:
        raise CodecFileError(f"{path}: {error}") from error


def save_published(model: McQuic, path: str | Path) -> None:
    """Write a model as McQuic 0.1.40 publishes its own, so that it can read ``.mcq`` files made with these weights.

    Tensors and plain containers only, without the prices of qualities, which McQuic does not know. It takes the file by
    ``--local PATH``, and wants ``mcquic`` in its suffix.
    """
    # McQuic refuses a configuration without a training section, of which decoding reads nothing.
    idle = {"key": "", "params": {}}
    train = {"batchSize": 1, "epoch": 1, "valFreq": 1, "trainSet": "", "valSet": "", "saveDir": "", "target": "PSNR"}
    train |= {"optim": idle, "schdr": idle, "gpu": {"gpus": 1, "vRam": -1, "wantsMore": False}}
    config = {
        "model": {"key": "Compressor", "params": {k: v for k, v in model.config.items() if k != "prices"}},
        "train": train,
    }
    state = {name: value.detach().cpu() for name, value in model.state_dict().items() if name != "_prices"}
    with written_whole(Path(path)) as file:
        torch.save({"model": state, "config": config, "version": "0.1.40"}, file)


def _state(content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("trainer"), dict):
        content = {"model": content["trainer"].get("_model")}
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("no McQuic model: a dictionary with a state dict under 'model' is expected")
    # A training checkpoint wraps the network and keeps losses beside it.
    if any(name.startswith(_WRAPPED) for name in state):
        state = {name.removeprefix(_WRAPPED): value for name, value in state.items() if name.startswith(_WRAPPED)}
    return {name: value.float() for name, value in state.items()}
