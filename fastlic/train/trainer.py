"""The trainer: rate-distortion training of one family with resumable state, held-out evaluation and a CSV log."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from fastlic.models import FAMILIES, Hyperprior
from fastlic.models.layers import channels_last
from fastlic.train import klt
from fastlic.train.data import Sampler, load_tiles
from fastlic.train.optim import Muon

# Each quality doubles the weight of the distortion. The field's usual ladder for MSE models, 0.0018..0.18, spans models
# of two sizes; one compact model spends its capacity better an octave lower.
LAMBDAS = [0.0008 * 2**k for k in range(8)]


@dataclass
class TrainConfig:
    """Everything that decides a run; written to ``config.json`` beside the checkpoints."""

    family: str = "jahp"
    N: int = 64
    M: int = 192
    widths: tuple[int, int, int] = (24, 48, 96)
    lambdas: list[float] = field(default_factory=lambda: list(LAMBDAS))
    batch: int = 8
    crop: int = 128
    lr: float = 1e-3
    optimiser: str = "muon"  # for the transforms' kernels: "muon" or "adam"
    kernel_rate: float = 0.25  # factor on the learning rate of the transforms' kernels
    start: str = "klt"  # "klt" or "random"
    minutes: float = 0.0  # the schedule's length in minutes of training, or
    steps: int = 0  # in steps; exactly one of the two
    warmup: int = 200
    decay_from: float = 0.3  # share of the run after which the rate falls linearly to 2 % of its peak
    ema: float = 0.999
    clip: float = 1.0
    autocast: bool = True  # bfloat16 for convolutions
    seed: int = 1
    validate_every: int = 2000
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {self.family!r}")
        if bool(self.minutes) == bool(self.steps):
            raise ValueError("give the run's length either in minutes or in steps")
        if self.optimiser not in ("muon", "adam"):
            raise ValueError(f"optimiser must be 'muon' or 'adam', got {self.optimiser!r}")
        if self.start not in ("klt", "random"):
            raise ValueError(f"start must be 'klt' or 'random', got {self.start!r}")
        a, b, c = self.widths  # JSON has no tuples
        self.widths = (a, b, c)


def rate_distortion(model: Hyperprior, x: Tensor, quality: Tensor | None) -> tuple[Tensor, Tensor]:
    """(bits per pixel [N], mean squared error on the 0..255 scale [N]) of one forward pass."""
    out = model(x, quality)
    pixels = x.shape[2] * x.shape[3]
    bits = sum(-likelihood.float().log2().sum((1, 2, 3)) for likelihood in out["likelihoods"].values())
    return bits / pixels, (out["x_hat"].float() - x).square().mean((1, 2, 3)) * 255**2


class Trainer:
    """One run in one folder: ``config.json``, ``log.csv``, ``last.pt`` (resumable) and ``best.pt`` (EMA weights)."""

    def __init__(self, config: TrainConfig, data: Path, out: Path, device: str | None = None) -> None:
        self.config, self.out = config, out
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        out.mkdir(parents=True, exist_ok=True)
        train, self.validation = load_tiles(data, cache=out / "tiles.npz")
        torch.manual_seed(config.seed)
        model = FAMILIES[config.family](config.N, config.M, config.widths, qualities=len(config.lambdas))
        if config.start == "klt":
            sample = train[:: max(len(train) // 256, 1)][:256].float() / 255
            klt.initialise(model, sample, config.lambdas)
        self.model = model.to(self.device)
        channels_last(self.model)
        self.ema = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.sampler = Sampler(train, config.batch, config.crop, config.seed)
        self.optimisers = self._optimisers()
        self.lambdas = torch.tensor(config.lambdas, device=self.device)
        # Gradients of the eight qualities differ a hundredfold; lambda^-1/2 gives each about the same relative pull.
        self.weights = (self.lambdas / self.lambdas.log().mean().exp()) ** -0.5
        self.step, self.seconds, self.best = 0, 0.0, math.inf
        (out / "config.json").write_text(json.dumps(asdict(config), indent=1))

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        kernels: list[Tensor] = []
        quantiles: list[Tensor] = []
        others: list[Tensor] = []
        for name, p in self.model.named_parameters():
            if p.ndim == 4 and name.startswith(("g_a", "g_s")):
                kernels.append(p)
            else:
                (quantiles if name.endswith("quantiles") else others).append(p)
        self.clipped = kernels + others
        groups = [{"params": others, "factor": 1.0}, {"params": quantiles, "factor": 1.0}]
        slow = {"params": kernels, "factor": self.config.kernel_rate}
        if self.config.optimiser == "muon":
            return [torch.optim.Adam(groups, betas=(0.9, 0.98)), Muon([slow], self.config.lr)]
        return [torch.optim.Adam([*groups, slow], betas=(0.9, 0.98))]

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0..1."""
        c = self.config
        return min(self.seconds / (60 * c.minutes) if c.minutes else self.step / c.steps, 1.0)

    def _rate(self) -> float:
        c = self.config
        left = (1 - self.progress) / (1 - c.decay_from)
        return c.lr * min((self.step + 1) / c.warmup, 1.0) * max(min(left, 1.0), 0.02)

    def train_step(self) -> tuple[float, float, float]:
        """One update; (loss, mean bpp, mean PSNR) of its batch. A step with a non-finite loss changes nothing."""
        c = self.config
        self.model.train()
        x = self.sampler.next().to(self.device, memory_format=torch.channels_last)
        levels = torch.randint(len(c.lambdas), (c.batch,), generator=self.sampler.generator).to(self.device)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._rate() * group["factor"]
            optimiser.zero_grad(set_to_none=True)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=c.autocast):
            bpp, mse = rate_distortion(self.model, x, levels + 1)
        loss = (self.weights[levels] * (self.lambdas[levels] * mse + bpp)).mean()
        (loss + self.model.aux_loss()).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.clipped, c.clip)
        if torch.isfinite(norm):
            for optimiser in self.optimisers:
                optimiser.step()
            decay = min(c.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                names, parameters = zip(*self.model.named_parameters(), strict=True)
                torch._foreach_lerp_([self.ema[name] for name in names], list(parameters), 1 - decay)
        self.step += 1
        psnr = (10 * (255**2 / mse.detach().clamp_min(1e-9)).log10()).mean()
        return loss.item(), bpp.mean().item(), psnr.item()

    @torch.no_grad()
    def validate(self) -> list[dict[str, float]]:
        """Per quality: estimated bpp, PSNR and loss of the EMA weights on the held-out tiles."""
        live = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.model.load_state_dict(self.ema, strict=False)
        self.model.eval()
        rows = []
        tiles = self.validation[:48] if len(self.validation) else self.sampler.tiles[:16]
        x_all = tiles.float().div(255)
        for index, lam in enumerate(self.config.lambdas):
            rates, errors = [], []
            for x in x_all.split(16):
                x = x.to(self.device, memory_format=torch.channels_last)
                bpp, mse = rate_distortion(self.model, x, torch.full((len(x),), index + 1.0, device=self.device))
                rates.append(bpp)
                errors.append(mse)
            bpp, mse = torch.cat(rates), torch.cat(errors).clamp_min(1e-9)
            psnr = (10 * (255**2 / mse).log10()).mean().item()
            loss = (bpp + lam * mse).mean().item()
            rows.append({"quality": index + 1, "bpp": bpp.mean().item(), "psnr": psnr, "loss": loss})
        self.model.load_state_dict(live, strict=False)
        return rows

    def _log(self, rows: list[dict[str, float]]) -> None:
        path = self.out / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "minutes", "quality", "bpp", "psnr", "loss"])
            for row in rows:
                numbers = [f"{row[key]:.5f}" for key in ("bpp", "psnr", "loss")]
                writer.writerow([self.step, f"{self.seconds / 60:.2f}", row["quality"], *numbers])

    def _write(self, name: str, content: dict) -> None:
        # Written beside and renamed: a run that is killed while saving keeps its previous checkpoint.
        partial = self.out / f"{name}.partial"
        torch.save(content, partial)
        os.replace(partial, self.out / name)

    def save(self) -> None:
        """Write ``last.pt``: weights, EMA, optimisers, sampler, step and time."""
        self._write(
            "last.pt",
            {
                "model": self.model.state_dict(),
                "ema": self.ema,
                "optimisers": [o.state_dict() for o in self.optimisers],
                "generator": self.sampler.generator.get_state(),
                "noise": torch.get_rng_state(),
                "step": self.step,
                "seconds": self.seconds,
                "best": self.best,
            },
        )

    def resume(self) -> bool:
        """Go on from ``last.pt`` if there is one; says whether there was."""
        path = self.out / "last.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        for optimiser, stored in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(stored)
        self.sampler.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["noise"].cpu())
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        return True

    def _checkpoint(self) -> str:
        rows = self.validate()
        self._log(rows)
        score = sum(row["loss"] * weight for row, weight in zip(rows, self.weights.tolist(), strict=True)) / len(rows)
        if score < self.best:
            self.best = score
            config = asdict(self.config)
            weights = {**self.model.state_dict(), **self.ema}
            self._write("best.pt", {"model": weights, "config": config, "step": self.step, "validation": rows})
        self.save()
        middle = rows[len(rows) // 2 - 1]
        return f"held out: score {score:.4f}, q{middle['quality']} {middle['bpp']:.3f} bpp {middle['psnr']:.2f} dB"

    def run(self) -> None:
        """Train until the schedule ends or SIGTERM/SIGINT asks for a clean stop (the state is saved)."""
        stop: list[int] = []
        previous = {s: signal.signal(s, lambda number, _: stop.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
        saved = self.seconds
        try:
            calm = 0.1 if sys.stderr.isatty() else 30.0  # a log file wants a line now and then, not ten a second
            total = self.config.steps or None
            with tqdm(desc="training", unit="step", initial=self.step, total=total, mininterval=calm) as bar:
                while self.progress < 1 and not stop:
                    began = time.monotonic()
                    loss, bpp, psnr = self.train_step()
                    self.seconds += time.monotonic() - began
                    bar.update()
                    if self.step % 20 == 0:
                        percent = f"{100 * self.progress:.1f}%"
                        bar.set_postfix_str(f"{percent} loss {loss:.3f} {bpp:.3f} bpp {psnr:.2f} dB", refresh=False)
                    if self.step % self.config.validate_every == 0:
                        bar.write(f"step {self.step}, {self.seconds / 60:.1f} min, {self._checkpoint()}")
                    elif self.seconds - saved > 60 * self.config.checkpoint_minutes:
                        self.save()
                        saved = self.seconds
                bar.write(f"step {self.step}, {self.seconds / 60:.1f} min, {self._checkpoint()}")
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
