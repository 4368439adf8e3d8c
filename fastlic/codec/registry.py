"""Codecs by name and by fingerprint: the default weights that ship in the package, and every codec loaded so far.

A fingerprint stands for one codec: another file can have it only if it decodes to the same pixels. Where no codec has
it, one that says it reads such streams (``Codec.reads``) decodes them. Streams of format version 1 name entropy
integers alone. Several codecs may read a fingerprint or have the same integers: shipped weights come first there, and
between loaded ones the caller has to choose.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import NamedTuple

from fastlic.arguments import checked
from fastlic.codec import container, hub
from fastlic.codec.cards import WEIGHTS, cards, shipped_reading, shipped_with, unknown
from fastlic.codec.codec import Codec
from fastlic.errors import ModelMismatchError
from fastlic.forks import held_off
from fastlic.models.defaults import undisturbed
from fastlic.models.mcquic import PUBLISHED_SUFFIXES, load_published

KEPT = 4  # codecs of files that stay in memory for ``decompress``; others are read again when a stream asks for them


class _Names(NamedTuple):
    """All by which streams may name a codec."""

    fingerprint: bytes
    entropy: bytes
    reads: tuple[bytes, ...]

    @classmethod
    def of(cls, codec: Codec) -> _Names:
        return cls(codec.fingerprint, codec.entropy_fingerprint, tuple(codec.reads))

    def has(self, header: container.Header) -> bool:
        """Whether the stream names this codec."""
        return header.fingerprint == (self.fingerprint if header.version > 1 else self.entropy)

    def read(self, header: container.Header) -> bool:
        """Whether the stream names another codec, of which this one says that it reads its streams."""
        return header.version > 1 and header.fingerprint in self.reads


_lock = RLock()
_files: dict[_Names, Path] = {}  # codecs of files
_recent: OrderedDict[_Names, Codec] = OrderedDict()  # the last used of them


@lru_cache(maxsize=16)
def _load_shipped(name: str) -> Codec:
    return Codec._load(WEIGHTS / f"{name}.safetensors", cards()[name]["sha256"])


def _load_file(path: Path) -> Codec:
    if path.suffix.lower() in PUBLISHED_SUFFIXES:
        codec = Codec(load_published(path), name=path.stem)
    else:
        codec = Codec.load(path)
    with _lock:
        names = _Names.of(codec)
        _files[names] = path.resolve()
        _keep(names, codec)
    return codec


def _keep(names: _Names, codec: Codec) -> None:
    _recent[names] = codec
    _recent.move_to_end(names)
    while len(_recent) > KEPT:
        _recent.popitem(last=False)


@undisturbed
@held_off
@checked
def load(name_or_path: str | os.PathLike[str]) -> Codec:
    """A codec by the name of shipped weights (``fastlic.info()["weights"]`` lists them), from a file or from the hub.

    ``hf://org/name`` is ``codec.safetensors`` of a repository on the Hugging Face hub (``fastlic.codec.hub.fetched``).
    The file is one that ``Codec.save`` wrote, or a ``.mcquic`` checkpoint of McQuic 0.1.40, whose codec is built anew.

    A codec that was loaded once is also found by ``fastlic.decompress`` when a stream asks for its fingerprint, or for
    one that it reads and no other codec has. It replaces no other codec there.

    Raises:
        CodecFileError: a file that is no codec, or a damaged one, shipped weights included.
        FileNotFoundError: no file of a name that is a path: a ``Path``, or one with a slash or ``.safetensors``.
        ValueError: neither a shipped name nor a file; nothing on the hub, or no network.
        BackendUnavailable: ``hf://`` without huggingface_hub.
    """
    name_or_path = hub.fetched(name_or_path)
    if isinstance(name_or_path, str) and name_or_path in cards():
        with _lock:
            return _load_shipped(name_or_path)
    if Path(name_or_path).is_file():
        return _load_file(Path(name_or_path))
    raise unknown(name_or_path)


@undisturbed
@held_off
@checked
def for_stream(data: bytes | bytearray | memoryview) -> Codec:
    """The codec that a stream needs, by its fingerprint: one that has it before any that only reads it.

    Raises:
        CorruptStreamError: the header is damaged.
        ModelMismatchError: neither shipped nor loaded, or several codecs that the stream does not tell apart; the
            message names family and fingerprint.
    """
    header = container.peek(data)
    wanted = header.fingerprint.hex()
    if name := shipped_with(wanted, header.version):
        return load(name)
    with _lock:
        found = _candidates(header, _Names.has)
        if not found and header.version > 1:
            if name := shipped_reading(wanted):
                return load(name)
            found = _candidates(header, _Names.read)
        if len(found) == 1:
            return _loaded(found[0], header)
        files = ", ".join(str(_files[names]) for names in found)
    family = container.model_name(header.model_id)
    needs = f"the stream needs {family!r} weights with fingerprint {wanted}"
    choose = "fastlic.load(path).decompress(data)"
    if found:
        which = "several loaded codecs read" if header.version > 1 else "stands for several loaded codecs"
        raise ModelMismatchError(f"{needs}, which {which}: {files}. Choose: {choose}")
    key = "fingerprint" if header.version > 1 else "entropy_fingerprint"
    known = ", ".join(f"{name} {card[key]}" for name, card in cards().items())
    raise ModelMismatchError(f"{needs}; shipped are: {known or 'none'}. Load the codec file it was made with: {choose}")


def _candidates(header: container.Header, fits: Callable[[_Names, container.Header], bool]) -> list[_Names]:
    """Loaded codecs that a stream may mean, one of each fingerprint."""
    return list({names.fingerprint: names for names in _files if fits(names, header)}.values())


def _loaded(names: _Names, header: container.Header) -> Codec:
    """A loaded codec that fits the stream, if its file still holds it."""
    codec = _recent.get(names)
    if codec is None:
        path = _files[names]
        codec = _load_file(path)
        held, names = names.fingerprint, _Names.of(codec)
        if names.fingerprint != held or not (names.has(header) or names.read(header)):
            other = f"{names.fingerprint.hex()}, which does not read streams of {header.fingerprint.hex()}"
            raise ModelMismatchError(
                f"the stream needs weights with fingerprint {held.hex()}, which {path} held; it now holds {other}"
            )
    _keep(names, codec)
    return codec
