"""The codec of a command, without torch where its transforms are integers and nobody needs more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastlic.cli import options
from fastlic.cli.progress import shares
from fastlic.errors import CodecFileError, ModelMismatchError

if TYPE_CHECKING:
    import numpy as np

    import fastlic
    from fastlic import light
    from fastlic.codec.image_files import Picture


class Coder:
    """Compresses with one codec; decompresses with it, or without one with that which a stream names.

    The codec of a name or a path is loaded at once, so that one that there is not is told before any work. Threads may
    share a coder.
    """

    def __init__(
        self,
        model: str | None,
        device: str = "cpu",
        *,
        threads: int = 0,  # of a call; 0: one per core
        max_pixels: int | None = None,
        needs_torch: bool = False,  # for .mcq files and efforts
        quiet: bool = False,  # shows nothing while an image takes long
    ) -> None:
        self._quiet = quiet
        self._model, self._device, self._threads, self._max_pixels = model, device, threads, max_pixels
        self._light: light.Codec | None = None
        self._whole: fastlic.Codec | None = None
        self._lock = threading.Lock()
        if model is None:
            return
        if device == "cpu" and not needs_torch:
            from fastlic import light

            with contextlib.suppress(CodecFileError):  # float transforms; or the whole library says what is wrong
                self._light = light.load(model)
        if self._light is None:
            self._load()

    @property
    def codec(self) -> light.Codec | fastlic.Codec:
        """The one that was asked for by a model."""
        return self._load() if self._light is None else self._light

    def quality(self, asked: float | None) -> float | None:
        """The quality to compress at; see ``options.checked_quality``."""
        return options.checked_quality(self.codec, asked)

    def wish(self, quality: float | None, target: Mapping[str, float] | None = None, effort: int = 0) -> dict[str, Any]:
        """The arguments of ``compress`` that say how much a file may take.

        Args:
            target: what ``options.chosen_target`` gave.
        """
        if target and not self.codec.qualities:
            raise click.UsageError(f"codec {self.codec.name!r} has one fixed rate, which no target changes")
        return {**(target or {"quality": self.quality(quality)}), **({"effort": effort} if effort else {})}

    def compress(self, picture: Picture, wish: Mapping[str, Any], as_mcq: bool = False) -> bytes:
        """A stream; ``wish`` as :meth:`wish` gave it."""
        if self._light is not None and not as_mcq:
            from fastlic import light

            with shares("compressing", self._quiet) as progress:
                return light.compress(
                    picture.array,
                    self._light,
                    threads=self._threads,
                    max_pixels=self._max_pixels,
                    metadata=picture.metadata,
                    progress=progress,
                    **wish,
                )
        attached = {} if as_mcq else {"metadata": picture.metadata}
        x = picture.pixels.to(self._device)
        with shown_steps(wish.get("effort", 0)):
            data = self._torch_coder(as_mcq).compress(x, max_pixels=self._max_pixels, **attached, **wish)
        assert isinstance(data, bytes)  # one image in, one stream out
        return data

    def decompress(
        self,
        data: bytes,
        is_mcq: bool = False,
        step: str = "decompressing",
        region: tuple[int, int, int, int] | None = None,
    ) -> np.ndarray:
        """Pixels uint8 [H, W, C], C as of the image that was compressed.

        Args:
            step: what a terminal calls it.
            region: left, top, width and height of the part that is wanted; none: the whole.
        """
        if region is not None and not is_mcq:  # before the work
            from fastlic.codec.container import peek

            head = peek(data)
            _check_region(region, head.height, head.width)
        if self._device == "cpu" and not is_mcq and (self._model is None or self._light is not None):
            from fastlic import light

            try:
                with shares(step, self._quiet) as progress:
                    x = light.decompress(
                        data,
                        self._light,
                        threads=self._threads,
                        max_pixels=self._max_pixels,
                        progress=progress,
                        region=region,
                    )
                return x if x.ndim == 3 else x[:, :, None]
            except (CodecFileError, ModelMismatchError):  # float transforms, or whoever knows more codecs has to say
                pass
        coder = self._torch_coder(is_mcq)
        import torch

        x = coder.decompress(data, self._device, torch.uint8, max_pixels=self._max_pixels)
        assert isinstance(x, torch.Tensor)  # one stream in, one image out
        return _part(x.permute(1, 2, 0).cpu().numpy(), region)

    def _load(self) -> fastlic.Codec:
        import fastlic

        assert self._model is not None
        with self._lock:
            if self._whole is None:
                self._whole = fastlic.load(self._model)
            return self._whole

    def _torch_coder(self, mcq_file: bool) -> Any:
        """What has torch's ``compress`` and ``decompress``: the codec, its form for .mcq files, or the library."""
        import torch

        import fastlic
        from fastlic.codec import mcq

        if self._threads:
            torch.set_num_threads(self._threads)
        codec = None if self._model is None else self._load()
        return mcq.coder_of(codec) if mcq_file else codec or fastlic


def _part(pixels: np.ndarray, region: tuple[int, int, int, int] | None) -> np.ndarray:
    if region is None:
        return pixels
    left, top, width, height = region
    _check_region(region, *pixels.shape[:2])
    return pixels[top : top + height, left : left + width]


def _check_region(region: tuple[int, int, int, int], rows: int, columns: int) -> None:
    left, top, width, height = region
    if not (width and height and left + width <= columns and top + height <= rows):
        raise ValueError(
            f"--region {width}x{height}+{left}+{top} does not lie in an image of {columns}x{rows} (width x height)"
        )


@contextlib.contextmanager
def shown_steps(effort: int) -> Iterator[None]:
    """How far an effort is, on a terminal."""
    from tqdm import tqdm

    from fastlic.codec.effort import WATCH

    with tqdm(unit="step", disable=None if effort else True, leave=False) as bar:

        def see(done: int, of: int) -> None:
            bar.total, bar.n = of, done
            bar.refresh()

        token = WATCH.set(see)
        try:
            yield
        finally:
            WATCH.reset(token)


def is_mcq(path: Path) -> bool:
    """Whether a file is, or is to become, one of McQuic's own."""
    from fastlic.codec.mcq_file import SUFFIX

    return path.suffix.lower() == SUFFIX
