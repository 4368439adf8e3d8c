"""``.flic`` files in Pillow: ``Image.open("x.flic")`` and ``image.save("x.flic", quality=4)``, without torch.

    import fastlic.pillow

``Image.open`` reads the head alone; pixels are decoded when they are first asked for. ``Image.save`` takes

    quality: 1 (smallest) to 8 (best), fractions allowed; without it 4, and not Pillow's 75.
    model: name of shipped weights, path of a codec file, or a codec (``fastlic.light.load``, ``fastlic.load``).
    icc_profile, exif, xmp: bytes, or for EXIF an ``Image.Exif``. Without it the profile is that of ``image.info``;
        EXIF and XMP are stored if they are given, as with Pillow's PNG and AVIF. ``None`` leaves each out.

Files of weights that do not ship are opened after ``fastlic.pillow.register(path)``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from fastlic import config, light
from fastlic.codec import container, sources
from fastlic.codec.image_files import EXIF_MARK, MODES, PROFILE_SPACES
from fastlic.codec.targets import TARGETS
from fastlic.errors import CodecFileError, CorruptStreamError, ModelMismatchError, PixelLimitError

__all__ = ["FORMAT", "MIME", "THREADS", "FlicImageFile", "register"]

FORMAT = "FLIC"
# Registered by nobody, hence "x-". It is no video/x-flic, as which desktops know animations of Autodesk Animator
# (.fli, .flc), and those animations are no image/.
MIME = "image/x-flic"
THREADS = 0  # of one image, both ways; 0: one per core. Programs of many processes, as loaders of data, want 1.

_MAGIC = b"FLIC"
_ANIMATIONS = (b"\x11\xaf", b"\x12\xaf")  # FLI and FLC at byte 4, after a size that may spell our magic

# The mode in which images of others are saved.
_SAVED = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}

_METADATA = {container.KINDS[name] for name in ("icc_profile", "exif", "xmp")}

_codecs: dict[bytes, Any] = {}  # by fingerprint: what register() was given


def register(*models: Any) -> None:
    """Make Pillow know ``.flic``; ``import fastlic.pillow`` has done so. To do it again changes nothing.

    Args:
        models: codecs of weights that do not ship, whose files are to be opened, too: paths of codec files, or codecs.

    Raises:
        TypeError, ValueError, CodecFileError: as of ``fastlic.light.load``.
    """
    for model in models:
        codec = _codec(model)
        _codecs[codec.fingerprint] = codec
    Image.register_open(FORMAT, FlicImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, container.SUFFIX)
    Image.register_mime(FORMAT, MIME)


def _accept(prefix: bytes) -> bool:
    return prefix[:4] == _MAGIC and prefix[4:6] not in _ANIMATIONS


class FlicImageFile(ImageFile.ImageFile):
    """What ``Image.open`` makes of a ``.flic`` file.

    Raises:
        OSError: a damaged or unreadable file: the head when it is opened, the rest when it is loaded.
        PIL.Image.DecompressionBombError: when it is loaded, more pixels than fastlic's limit (``FASTLIC_MAX_PIXELS``);
            Pillow's own limit, ``Image.MAX_IMAGE_PIXELS``, is asked when it is opened.
    """

    format = FORMAT
    format_description = "fastlic image"

    def _open(self) -> None:
        file = self._file()
        self._start = file.tell()
        head = sources.read_head(file)
        if not _accept(head):
            raise SyntaxError("not a .flic file")
        layout = _told(container.parse, head)
        self._size = (layout.header.width, layout.header.height)
        self._mode = MODES[layout.header.channels]
        if any(kind in _METADATA for kind, _, _ in layout.attachments):
            end = layout.framing_bytes + sum(length for _, length, _ in layout.attachments)
            if len(head) < end:
                head += sources.read_from(file, end - len(head))
            self.info.update(_info(_told(container.read_metadata, head)))
        self.tile = [("raw", (0, 0, *self.size), 0, self.mode)]  # type: ignore[list-item]  # a tuple before Pillow 11

    def load(self) -> Any:
        """Decode the pixels, if that was not done yet."""
        if self.tile:
            pixels = _decoded(self._stream())
            if self._exclusive_fp:
                self._file().close()
            self.fp = io.BytesIO(pixels.tobytes())
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Nothing: what ``load`` reads begins with the pixels. Of a plugin without this Pillow would map the file."""

    def verify(self) -> None:
        """Check every checksum of the file, without decoding it.

        Raises:
            OSError: the file is damaged.
        """
        data = self._stream()
        for check in (container.unpack, container.attachments):
            _told(check, data)
        super().verify()

    def _file(self) -> IO[bytes]:
        if self.fp is None:
            raise ValueError("the image was closed before it was loaded")
        return self.fp

    def _stream(self) -> bytes:
        file = self._file()
        file.seek(self._start)
        return file.read()


def _told(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What the call gives; errors as Pillow's own plugins have them."""
    try:
        return call(*arguments, **options)
    except CorruptStreamError as error:
        raise OSError(f"damaged .flic file: {error}") from error
    except PixelLimitError as error:
        raise Image.DecompressionBombError(str(error)) from error
    except ModelMismatchError as error:
        raise OSError(f"{error}; to open it with Pillow: fastlic.pillow.register(path)") from error


def _info(metadata: container.Metadata) -> dict[str, bytes]:
    """What ``image.info`` has of it."""
    exif = EXIF_MARK + metadata.exif if metadata.exif else b""
    named = {"icc_profile": metadata.icc_profile, "exif": exif, "xmp": metadata.xmp}
    return {name: value for name, value in named.items() if value}


def _metadata(image: Image.Image, options: dict[str, Any], channels: int) -> container.Metadata:
    """What is stored of ``image.info`` and the arguments of ``save``."""
    profile = options.get("icc_profile", b"")
    if "icc_profile" not in options:
        own = image.info.get("icc_profile") or b""
        # Of the colours that are stored: those of a CMYK image, say, have become others.
        profile = own if own[16:20] == PROFILE_SPACES[channels] else b""
    exif, xmp = options.get("exif") or b"", options.get("xmp") or b""
    if isinstance(exif, Image.Exif):
        exif = exif.tobytes()
    if not isinstance(exif, bytes):
        raise TypeError(f"exif must be bytes or an Image.Exif, got {type(exif).__name__}")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return container.Metadata(profile or b"", exif.removeprefix(EXIF_MARK), xmp)


def _decoded(data: bytes) -> np.ndarray:
    """uint8 [H, W, C], or [H, W] of one channel."""
    header = _told(container.peek, data)
    codec = _codecs.get(header.fingerprint)
    if codec is None or isinstance(codec, light.Codec):
        return _told(light.decompress, data, codec, threads=THREADS)
    import torch  # who made that codec has imported it

    return _told(codec.decompress, data, dtype=torch.uint8).permute(1, 2, 0).numpy()


def _codec(model: Any) -> Any:
    if not isinstance(model, str | os.PathLike):
        return model if hasattr(model, "decompress") else _light(model)
    try:
        return light.load(model)
    except CodecFileError:  # float transforms, which torch runs; or the whole library says what is wrong
        import fastlic

        return fastlic.load(model)


def _light(model: Any) -> light.Codec:
    if not isinstance(model, light.Codec):
        raise TypeError(f"model must be a name, a path or a codec, got {type(model).__name__}")
    return model


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    options = getattr(image, "encoderinfo", {})
    pixels, quality = _pixels(image), options.get("quality")
    metadata = _metadata(image, options, 1 if pixels.ndim == 2 else pixels.shape[2])
    codec = _codec(options.get("model", config.DEFAULT_MODEL))
    targets = {name: options[name] for name in TARGETS if name in options}
    if isinstance(codec, light.Codec):
        data = light.compress(pixels, codec, quality, threads=THREADS, metadata=metadata, **targets)
    else:
        data = codec.compress(pixels, quality, metadata=metadata, **targets)
    file.write(data)


def _pixels(image: Image.Image) -> np.ndarray:
    """uint8 [H, W] or [H, W, C]; what it takes to make those of other modes loses nothing but the names of colours."""
    mode = image.mode if image.mode in MODES.values() else _SAVED.get(image.mode)
    if mode is None:
        raise OSError(f"cannot write mode {image.mode} as {FORMAT}: image.convert('RGB')")
    if image.has_transparency_data and not mode.endswith("A"):
        mode += "A"  # of a palette, or one colour that is
    return np.array(image if image.mode == mode else image.convert(mode))


register()
