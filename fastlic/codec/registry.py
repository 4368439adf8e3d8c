"""Codecs by name and by fingerprint: the default weights that ship in the package, and every codec loaded so far."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from fastlic.codec import container
from fastlic.codec.cards import WEIGHTS, cards
from fastlic.codec.codec import Codec
from fastlic.errors import ModelMismatchError
from fastlic.models.mcquic import PUBLISHED_SUFFIXES, load_published

_loaded: dict[bytes, Codec] = {}


@lru_cache(maxsize=16)
def _load_shipped(name: str) -> Codec:
    return Codec.load(WEIGHTS / f"{name}.safetensors")


def _load_file(path: Path) -> Codec:
    if path.suffix.lower() in PUBLISHED_SUFFIXES:
        return Codec(load_published(path), name=path.stem)
    return Codec.load(path)


def load(name_or_path: str | Path) -> Codec:
    """A codec by the name of shipped weights (``fastlic.info()["weights"]`` lists them) or from a file.

    The file is one that ``Codec.save`` wrote, or a ``.mcquic`` checkpoint of McQuic 0.1.40, whose codec is built anew.

    A codec that was loaded once is also found by ``fastlic.decompress`` when a stream asks for its fingerprint.

    Raises:
        ValueError: neither a shipped name nor a file, or a file that is no codec.
    """
    if isinstance(name_or_path, str) and name_or_path in cards():
        codec = _load_shipped(name_or_path)
    elif Path(name_or_path).is_file():
        codec = _load_file(Path(name_or_path))
    else:
        raise ValueError(
            f"{str(name_or_path)!r} is neither a codec file nor one of the shipped weights ({', '.join(cards())})"
        )
    _loaded[codec.fingerprint] = codec
    return codec


def for_stream(data: bytes | bytearray | memoryview) -> Codec:
    """The codec that a stream needs, by its fingerprint.

    Raises:
        CorruptStreamError: the header is damaged.
        ModelMismatchError: neither shipped nor loaded; the message names family and fingerprint.
    """
    header = container.peek(data)
    if header.fingerprint in _loaded:
        return _loaded[header.fingerprint]
    wanted = header.fingerprint.hex()
    for name, card in cards().items():
        if card["fingerprint"] == wanted:
            return load(name)
    family = container.model_name(header.model_id)
    known = ", ".join(f"{name} {card['fingerprint']}" for name, card in cards().items())
    raise ModelMismatchError(
        f"the stream needs {family!r} weights with fingerprint {wanted}; shipped are: {known or 'none'}. "
        f"Load the codec file it was made with: fastlic.load(path).decompress(data)"
    )
