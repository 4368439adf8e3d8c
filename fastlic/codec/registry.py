"""Codecs by name and by fingerprint: the default weights that ship in the package, and every codec loaded so far.

A fingerprint stands for one codec: another file can have it only if it decodes to the same pixels. Streams of format
version 1 name entropy integers alone, which several codecs may share: shipped weights come first there, and between
loaded ones the caller has to choose.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from threading import RLock

from fastlic.arguments import checked
from fastlic.codec import container
from fastlic.codec.cards import WEIGHTS, cards
from fastlic.codec.codec import Codec
from fastlic.errors import ModelMismatchError
from fastlic.forks import held_off
from fastlic.models.mcquic import PUBLISHED_SUFFIXES, load_published

KEPT = 4  # codecs of files that stay in memory for ``decompress``; others are read again when a stream asks for them

_lock = RLock()
_files: dict[bytes, tuple[bytes, Path]] = {}  # fingerprint -> fingerprint of the entropy integers, file
_recent: OrderedDict[bytes, Codec] = OrderedDict()  # the last used of them


@lru_cache(maxsize=16)
def _load_shipped(name: str) -> Codec:
    return Codec._load(WEIGHTS / f"{name}.safetensors", cards()[name]["sha256"])


def _load_file(path: Path) -> Codec:
    if path.suffix.lower() in PUBLISHED_SUFFIXES:
        codec = Codec(load_published(path), name=path.stem)
    else:
        codec = Codec.load(path)
    with _lock:
        _files[codec.fingerprint] = codec.entropy_fingerprint, path.resolve()
        _keep(codec)
    return codec


def _keep(codec: Codec) -> None:
    _recent[codec.fingerprint] = codec
    _recent.move_to_end(codec.fingerprint)
    while len(_recent) > KEPT:
        _recent.popitem(last=False)


@held_off
@checked
def load(name_or_path: str | Path) -> Codec:
    """A codec by the name of shipped weights (``fastlic.info()["weights"]`` lists them) or from a file.

    The file is one that ``Codec.save`` wrote, or a ``.mcquic`` checkpoint of McQuic 0.1.40, whose codec is built anew.

    A codec that was loaded once is also found by ``fastlic.decompress`` when a stream asks for its fingerprint. It
    replaces no other codec there.

    Raises:
        CodecFileError: a file that is no codec, or a damaged one, shipped weights included.
        ValueError: neither a shipped name nor a file.
    """
    if isinstance(name_or_path, str) and name_or_path in cards():
        with _lock:
            return _load_shipped(name_or_path)
    if Path(name_or_path).is_file():
        return _load_file(Path(name_or_path))
    raise ValueError(
        f"{str(name_or_path)!r} is neither a codec file nor one of the shipped weights ({', '.join(cards())})"
    )


@held_off
@checked
def for_stream(data: bytes | bytearray | memoryview) -> Codec:
    """The codec that a stream needs, by its fingerprint.

    Raises:
        CorruptStreamError: the header is damaged.
        ModelMismatchError: neither shipped nor loaded, or several codecs that the stream does not tell apart; the
            message names family and fingerprint.
    """
    header = container.peek(data)
    key = "fingerprint" if header.version > 1 else "entropy_fingerprint"
    wanted = header.fingerprint.hex()
    for name, card in cards().items():
        if card[key] == wanted:
            return load(name)
    with _lock:
        if header.version > 1:
            found = [header.fingerprint] if header.fingerprint in _files else []
        else:
            found = [fingerprint for fingerprint, (entropy, _) in _files.items() if entropy == header.fingerprint]
        if len(found) == 1:
            return _loaded(found[0])
        files = ", ".join(str(_files[fingerprint][1]) for fingerprint in found)
    family = container.model_name(header.model_id)
    needs = f"the stream needs {family!r} weights with fingerprint {wanted}"
    choose = "fastlic.load(path).decompress(data)"
    if found:
        raise ModelMismatchError(f"{needs}, which stands for several loaded codecs: {files}. Choose: {choose}")
    known = ", ".join(f"{name} {card[key]}" for name, card in cards().items())
    raise ModelMismatchError(f"{needs}; shipped are: {known or 'none'}. Load the codec file it was made with: {choose}")


def _loaded(fingerprint: bytes) -> Codec:
    codec = _recent.get(fingerprint)
    if codec is None:
        path = _files[fingerprint][1]
        codec = _load_file(path)
        if codec.fingerprint != fingerprint:
            raise ModelMismatchError(
                f"the stream needs weights with fingerprint {fingerprint.hex()}, which {path} held; it now holds "
                f"{codec.fingerprint.hex()}"
            )
    _keep(codec)
    return codec
