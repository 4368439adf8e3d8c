"""Codec files of the Hugging Face hub: ``hf://org/name[@revision][/file.safetensors]``."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from fastlic.arguments import checked
from fastlic.errors import BackendUnavailable, optional

FILE = "codec.safetensors"  # what ``fastlic train`` calls its codec


@checked
def fetched(name_or_path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """A codec file of the hub as a file here; what is no ``hf://`` name, as it is.

    The hub's own cache keeps the file, and needs no network the next time (HF_HUB_OFFLINE=1). A name without a file
    means ``codec.safetensors``. Weights decide what pixels are: name a revision, and load what you trust.

    Raises:
        BackendUnavailable: no huggingface_hub.
        ValueError: no such name, repository, revision or file, or no network; the message has the hub's words.
    """
    if not isinstance(name_or_path, str) or not name_or_path.startswith("hf://"):
        return name_or_path
    form = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.+))?", name_or_path)
    if form is None:
        raise ValueError(f"{name_or_path!r} is no name on the hub: hf://org/name, hf://org/name@revision/file")
    try:
        return _downloaded(form[1], form[3] or FILE, form[2])
    except BackendUnavailable:
        raise
    except Exception as error:  # of the network, of the system, of the hub
        raise ValueError(f"{name_or_path}: {type(error).__name__}: {' '.join(str(error).split())}") from error


@lru_cache(maxsize=16)
def _downloaded(repository: str, file: str, revision: str | None) -> Path:
    """Asked once per process: a process keeps to the weights that it began with."""
    return Path(optional("huggingface_hub", "hub").hf_hub_download(repository, file, revision=revision))
