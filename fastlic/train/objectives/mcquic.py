"""McQuic: distortion alone, at a rate that the codebooks' sizes fix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastlic.models import McQuic
from fastlic.models.mcquic.quantizer import Codebooks, lookup, split_groups
from fastlic.train import vq, vq_contrast, vq_decoder, vq_words
from fastlic.train.config import RunConfig
from fastlic.train.ms_ssim import ms_ssim
from fastlic.train.objectives.base import Measured, Objective, Row, psnr
from fastlic.train.weights import load_into

# Of the logarithm of all prices, for each step at twice the wanted rate. Frequencies must follow faster than prices.
_GAIN = 0.01


class McQuicObjective(Objective):
    """1 - MS-SSIM, the squared error, or both, of images restored from codebook indexes.

    Settings (``[objective]`` of a configuration):
        sampled: draw words with Gumbel noise, as McQuic's authors train; false takes the nearest, straight through.
        commitment: weight of what binds words and the vectors they stand for to each other, if not sampled.
        mse_share: share of the squared error (on the [-1, 1] scale, weighed by ``vq_contrast.visibility``) in a loss
            whose metric is MS-SSIM.
        reassign_every: steps between moves of words that nothing is nearest to; 0: never.
        decay: of the running frequencies.
        rate_weight: squared error of the latents that one bit is worth: entropy-constrained codebooks
            (fastlic.train.vq_words), whose dead words stay dead; 0: codes look at errors alone.
        rate_target: bits per pixel at which training holds the rate by scaling all prices of bits; 0: prices stay. An
            encoder that is trained would otherwise move its vectors out of the cheap words.
        price_hold: weight of the squared difference between the prices that the model's heads give and those that the
            weights of the start gave; no gradient but this one reaches a price.
    """

    model: McQuic

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        settings = dict(config.objective)
        self.sampled = bool(settings.pop("sampled", True))
        self.commitment = float(settings.pop("commitment", 0.25))
        self.mse_share = float(settings.pop("mse_share", 0.0))
        self.reassign_every = int(settings.pop("reassign_every", 200))
        self.decay = float(settings.pop("decay", 0.98))
        self.rate_weight = float(settings.pop("rate_weight", 0.0))
        self.rate_target = float(settings.pop("rate_target", 0.0))
        self.price_hold = float(settings.pop("price_hold", 0.0))
        if settings:
            raise ValueError(f"no such setting of the objective: {', '.join(settings)}")
        if (self.rate_target or self.price_hold) and self.rate_weight <= 0:
            raise ValueError("rate_target and price_hold are about prices of bits: they need a rate_weight")
        self.model = McQuic(**config.model)
        self.scale = torch.ones(())  # of all prices
        self.first: McQuic | None = None  # the model at the start, whose prices are held
        for book in self.model._quantizer.codebooks:
            book.nearest = partial(vq_words.nearest, book=book._codebook)  # type: ignore[method-assign]
            if self.rate_weight > 0:
                book.straight_through = partial(_straight_through, book)  # type: ignore[method-assign]

    def start(self, tiles: Tensor) -> None:
        """A block transform with vector quantisation and the decoder that fits it best, or weights of another run."""
        if self.config.start == "klt":
            generator = torch.Generator().manual_seed(self.config.seed)
            vq.initialise(self.model, _sample(tiles, 512), generator, self.rate_weight)
            vq_words.refine(self.model, _sample(tiles, 900), rate_weight=self.rate_weight)
            vq_decoder.fit(self.model, _sample(tiles, 600))
        elif self.config.start != "random":
            load_into(self.model, Path(self.config.start))
        if self.price_hold > 0:
            self._hold(self.model.state_dict())

    def _hold(self, state: dict[str, Tensor]) -> None:
        if self.first is None:
            self.first = McQuic(**self.config.model).eval().requires_grad_(False)
        self.first.load_state_dict(state)  # in place: a captured graph holds the addresses

    def is_kernel(self, name: str, parameter: Tensor) -> bool:
        """Every convolution's kernel."""
        return parameter.ndim == 4 and name.endswith("weight")

    def measure(self, x: Tensor, drawn: Tensor) -> Measured:
        out = self.model(2 * x - 1, sampled=self.sampled, decay=self.decay)
        x_hat = (out["x_hat"].float() + 1) / 2
        error = (x_hat - x).square().mean((1, 2, 3))
        if self.config.metric == "mse":
            loss = 4 * error.mean()
        else:
            visible = ((x_hat - x).square() * vq_contrast.visibility(x)).mean()
            loss = (1 - self.mse_share) * (1 - ms_ssim(x_hat, x)).mean() + self.mse_share * 4 * visible
        auxiliary = None
        if not self.sampled:
            terms = []
            for head, codes, book in zip(out["heads"], out["codes"], self.model._quantizer.codebooks, strict=True):
                words, head = (
                    split_groups(part, self.model.m) for part in (lookup(book._codebook, codes), head.float())
                )
                weights = vq_words.weights(head.detach(), self.rate_weight)
                if self.rate_weight > 0:  # the last channel of a group is no part of a vector
                    words, head = words[..., :-1], head[..., :-1]
                # Words go to their vectors quickly, vectors to their words slowly.
                terms.append((weights * (words - head.detach()).square()).mean())
                terms.append(self.commitment * (weights * (head - words.detach()).square()).mean())
            auxiliary = torch.stack(terms).sum() * self.commitment
            if self.first is not None:
                auxiliary = auxiliary + self.price_hold * self._price_error(self.first, x, out["heads"])
        return Measured(loss, self.rate(x, out["codes"]), error.detach() * 255**2, auxiliary)

    def _price_error(self, first: McQuic, x: Tensor, heads: Sequence[Tensor]) -> Tensor:
        """Mean squared difference between prices and those of ``first``, in units of the mean price."""
        first.to(x.device)
        with torch.no_grad():
            wanted = first(2 * x - 1, sampled=False)["heads"]
        unit = self.rate_weight / (2 * vq_words.BIT)
        errors = [
            (split_groups(a.float() - b.float(), self.model.m)[..., -1] / unit).square().mean()
            for a, b in zip(heads, wanted, strict=True)
        ]
        return torch.stack(errors).sum()

    def rate(self, x: Tensor, codes: Sequence[Tensor]) -> Tensor:
        """[N]: bits per pixel of the codes under the running frequencies."""
        bits = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for share, code in zip(self.model.frequencies(), codes, strict=True):
            information = -share.clamp_min(2.0**-16).log2()
            for group in range(code.shape[1]):
                bits += information[group][code[:, group]].sum((1, 2))
        return (bits / (x.shape[2] * x.shape[3])).float()

    def after_step(self, step: int, generator: torch.Generator) -> None:
        """Give words that nothing is nearest to a new place, or write into all words what they inform of."""
        if self.rate_weight > 0:
            with torch.no_grad():
                frequencies = self.model._quantizer._entropyCoder._freqEMA
                if self.rate_target > 0:
                    above = self._entropy(frequencies) / self.rate_target - 1
                    self.scale = (self.scale.to(above.device) * (_GAIN * above.clamp(-1, 1)).exp()).clamp(0.01, 100)
                for level, shares in enumerate(frequencies):
                    book = self.model._quantizer.codebooks[level]._codebook
                    vq_words.inform(book, shares / shares.sum(1, keepdim=True), self.scale)
        elif self.reassign_every and step % self.reassign_every == 0:
            self.model.keep_alive(generator)

    def _entropy(self, frequencies: Iterable[Tensor]) -> Tensor:
        """Bits per pixel of codes that follow the running frequencies."""
        bits = []
        for level, shares in enumerate(frequencies):
            p = shares / shares.sum(1, keepdim=True)
            bits.append(-(p * p.clamp_min(2.0**-24).log2()).sum() / (16 << level) ** 2)
        return torch.stack(bits).sum()

    def state(self) -> dict[str, Any]:
        """The scale of prices, and the model whose prices are held."""
        return {"scale": self.scale} | ({} if self.first is None else {"first": self.first.state_dict()})

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.scale = state.get("scale", self.scale)
        if "first" in state:
            self._hold(state["first"])

    def validate(self, batches: Sequence[Tensor]) -> list[Row]:
        """bpp, PSNR, MS-SSIM in dB, and the used share of each level's codebooks."""
        rates, decibels, similar = [], [], []
        for x in batches:
            out = self.model(2 * x - 1, sampled=False)
            x_hat = ((out["x_hat"].float() + 1) / 2).clamp(0, 1)
            rates.append(self.rate(x, out["codes"]))
            decibels.append(psnr((x_hat - x).square().mean((1, 2, 3)) * 255**2))
            similar.append(ms_ssim(x_hat, x))
        bpp, quality = torch.cat(rates).mean().item(), torch.cat(decibels).mean().item()
        index = torch.cat(similar)
        row = {
            "bpp": bpp,
            "psnr": quality,
            "ms_ssim_db": (-10 * (1 - index).clamp_min(1e-9).log10()).mean().item(),
            "loss": (1 - index).mean().item() if self.config.metric == "ms-ssim" else 10 ** (-quality / 10),
        }
        return [row | {f"used_{level}": share for level, share in enumerate(self.model.usage())}]

    def score(self, rows: Sequence[Row]) -> float:
        """1 - MS-SSIM, or the squared error at the mean PSNR."""
        return rows[0]["loss"]

    def describe(self, rows: Sequence[Row]) -> str:
        """Rate, both qualities, and how many words live."""
        row = rows[0]
        used = " ".join(f"{100 * row[name]:.0f}%" for name in row if name.startswith("used_"))
        return f"{row['bpp']:.3f} bpp, {row['psnr']:.2f} dB, MS-SSIM {row['ms_ssim_db']:.2f} dB, words in use {used}"


def _straight_through(book: Codebooks, x: Tensor) -> tuple[Tensor, Tensor]:
    """As ``Codebooks.straight_through``, but no gradient reaches prices, the last channel of each group."""
    codes = book.nearest(x)
    m, _, d = book._codebook.shape
    learns = (torch.arange(m * d, device=x.device) % d < d - 1)[:, None, None]
    return (x - x.detach()) * learns + lookup(book._codebook, codes), codes


def _sample(tiles: Tensor, count: int) -> Tensor:
    """At most ``count`` of the tiles, spread over all, as floats in [-1, 1]."""
    return tiles[:: -(-len(tiles) // count)].float() / 127.5 - 1
