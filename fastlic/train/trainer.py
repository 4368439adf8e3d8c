"""The trainer: one run of one family in one folder, resumable to the bit, with held-out evaluation and CSV logs."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fastlic.files import write_whole, written_whole
from fastlic.forks import held_off
from fastlic.models import bfloat16
from fastlic.models.layers import channels_last
from fastlic.train.config import RunConfig, changes
from fastlic.train.data import Sampler, load_tiles, sent
from fastlic.train.gradients import Gradients
from fastlic.train.guard import Guard
from fastlic.train.objectives import Measured, Row, build
from fastlic.train.objectives.base import psnr
from fastlic.train.optim import Muon
from fastlic.train.stored import StoredSampler, store
from fastlic.train.weights import load_into, read_saved

_LOG_STEPS = 50  # steps behind one line of train.csv
_VALIDATION_TILES, _VALIDATION_BATCH = 48, 16
_FLOOR = 0.02  # share of the peak rate at which the decay ends


class Trainer:
    """One run. Its folder holds ``config.json``, ``log.csv`` (held out), ``train.csv``, ``last.pt`` and ``best.pt``.

    ``last.pt`` has everything that the next step depends on; ``best.pt`` the averaged weights of the best validation.

    Args:
        config: the run.
        data: a folder of photographs; their tiles are cached in ``out``.
        out: the run's folder, made if missing.
        device: default a GPU if there is one.
    """

    def __init__(self, config: RunConfig, data: Path, out: Path, device: str | None = None) -> None:
        self.config, self.out = config, out
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        self.objective = build(config)  # before the tiles: what is wrong with the settings is told at once
        out.mkdir(parents=True, exist_ok=True)
        self.tiles, self.validation = load_tiles(data, cache=out / "tiles.npz")
        if self.device.startswith("cuda"):
            torch.backends.cudnn.benchmark = True  # shapes of batches stay the same
        if not (out / "last.pt").exists():
            self.objective.start(self.tiles)
        self.model = self.objective.model.to(self.device)
        channels_last(self.model)
        self.sampler = self._sampler()
        self.optimisers = self._optimisers()
        self.ema = {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}
        self.guard = Guard(self)
        self.gradients = Gradients(
            self.objective,
            [p for p in self.model.parameters() if p.requires_grad],
            config.autocast and bfloat16.supported(torch.device(self.device)),
            graph=config.graph and self.device.startswith("cuda"),
        )
        # A GPU is asked how its steps went now and then, and otherwise works on without waiting for the host.
        self.look_every = _LOG_STEPS if self.device.startswith("cuda") else 1
        self.step, self.seconds, self.waited, self.best = 0, 0.0, 0.0, math.inf
        self._recent: list[Tensor] = []

    def _sampler(self) -> Sampler | StoredSampler:
        """Of crops, or of what the objective makes of whole tiles and this run has computed once."""
        c = self.config
        if not c.stored:
            return Sampler(self.tiles, c.batch, c.crop, c.seed, self.device)
        path, last = self.out / "latents.npy", self.out / "last.pt"
        if not path.exists() or not last.exists():  # what a run left before its first checkpoint is of any transforms
            if last.exists():  # not resumed yet: the transforms are not those of the run
                load_into(self.model, last)
            store(self.objective.analyse, self.tiles, c.stored, c.seed, path, self.device)
        return StoredSampler(path, c.batch, c.seed, self.device)

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        """Adam and Muon, one parameter group for each pair of optimiser and learning-rate factor."""
        groups: dict[tuple[bool, float], list[Tensor]] = {}
        self.clipped: list[Tensor] = []
        for name, p in self.model.named_parameters():
            factors = [f for prefix, f in self.config.rates.items() if name.startswith(prefix)]
            factor = math.prod(factors)
            if factor == 0:
                p.requires_grad_(False)
                continue
            kernel = self.objective.is_kernel(name, p)
            factor *= self.config.kernel_rate if kernel else 1.0
            groups.setdefault((kernel and self.config.optimiser == "muon", factor), []).append(p)
            if not self.objective.is_unclipped(name):
                self.clipped.append(p)
        adam, muon = (
            [{"params": ps, "factor": f} for (is_muon, f), ps in groups.items() if is_muon == wanted]
            for wanted in (False, True)
        )
        optimisers: list[torch.optim.Optimizer] = []
        if adam:  # fused: for MLIC++ and its 500 small tensors, a call per operation and tensor took 3.6 times longer
            optimisers.append(torch.optim.Adam(adam, betas=(0.9, 0.98), fused=True))
        if muon:
            optimisers.append(Muon(muon, self.config.lr))
        if not optimisers:
            raise ValueError(f"rates {self.config.rates} freeze every parameter")
        return optimisers

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0..1."""
        c = self.config
        return min(self.seconds / (60 * c.minutes) if c.minutes else self.step / c.steps, 1.0)

    def rate(self) -> float:
        """Learning rate of the next step, before the factors of its groups."""
        c = self.config
        done = max(self.progress - c.decay_from, 0) / (1 - c.decay_from) if c.decay_from < 1 else 0.0
        left = 1 - done if c.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
        return c.lr * self.guard.caution * min((self.step + 1) / c.warmup, 1.0) * max(left, _FLOOR)

    # ---- one step

    @held_off
    def train_step(self) -> Measured:
        """One update. A step whose loss or gradient is not finite changes no weight; the guard counts it."""
        c = self.config
        waited = self.sampler.seconds
        x = self.sampler.next()
        self.waited += self.sampler.seconds - waited
        drawn = sent(self.objective.draw(len(x), self.sampler.generator), x.device)
        self.model.train()
        rate = self.rate()
        measured = self.gradients(x, drawn)
        norm = torch.nn.utils.clip_grad_norm_(self.clipped, c.clip)
        good = torch.isfinite(norm) & torch.isfinite(measured.loss)
        if measured.auxiliary is not None:
            good = good & torch.isfinite(measured.auxiliary)
        self.step += 1
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["factor"]
            optimiser.found_inf = (~good).float()  # type: ignore[attr-defined]
            optimiser.step()
        self._average(min(c.ema, self.step / (9 + self.step)))
        self.objective.after_step(self.step, self.sampler.generator)
        self.guard.saw(good)
        if self.step % self.look_every == 0:
            self.guard.look()
        return measured

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        names, parameters = zip(*((n, p) for n, p in self.model.named_parameters() if p.requires_grad), strict=True)
        torch._foreach_lerp_([self.ema[name] for name in names], list(parameters), 1 - decay)

    # ---- held-out figures

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model holds the averaged weights, in eval mode, without gradients."""
        live = {name: p.detach().clone() for name, p in self.model.named_parameters() if name in self.ema}
        self.model.load_state_dict(self.ema, strict=False)
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.load_state_dict(live, strict=False)

    def validate(self) -> list[Row]:
        """Figures of the averaged weights on held-out tiles (on training tiles if none were held out)."""
        tiles = self.validation[:_VALIDATION_TILES] if len(self.validation) else self.tiles[:_VALIDATION_BATCH]
        batches = [
            x.to(self.device).float().div(255).contiguous(memory_format=torch.channels_last)
            for x in tiles.split(_VALIDATION_BATCH)
        ]
        with self.averaged():
            return self.objective.validate(batches)

    def _append(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        path = self.out / name
        new = not path.exists()
        try:
            with path.open("a", newline="") as file:
                writer = csv.writer(file)
                if new:
                    writer.writerow(columns)
                writer.writerows(rows)
        except OSError as error:
            error.filename = str(path)
            raise

    def _log_validation(self, rows: Sequence[Row]) -> None:
        when = [self.step, f"{self.seconds / 60:.2f}"]
        lines = [[*when, *(f"{v:.6g}" for v in row.values())] for row in rows]
        self._append("log.csv", ["step", "minutes", *rows[0]], lines)

    def _means(self) -> tuple[float, float, float]:
        """Loss, bpp and PSNR, averaged over the steps since the last call; a GPU is waited for."""
        loss, bpp, decibels = torch.stack(self._recent).mean(0).tolist()
        self._recent.clear()
        return loss, bpp, decibels

    def _log_training(self, loss: float, bpp: float, decibels: float) -> None:
        """A line of train.csv."""
        numbers = [f"{v:.6g}" for v in (loss, bpp, decibels, self.rate(), self.waited / max(self.seconds, 1e-9))]
        columns = ["step", "minutes", "loss", "bpp", "psnr", "rate", "waiting"]
        self._append("train.csv", columns, [[self.step, f"{self.seconds / 60:.3f}", *numbers]])

    # ---- state

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, and the run's bookkeeping."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimisers": [o.state_dict() for o in self.optimisers],
            "objective": self.objective.state(),
            "sampler": self.sampler.generator.get_state(),
            "noise": torch.get_rng_state(),
            "device_noise": torch.cuda.get_rng_state(self.device) if self.device.startswith("cuda") else None,
            "caution": self.guard.caution,
            "step": self.step,
            "seconds": self.seconds,
            "waited": self.waited,
            "best": self.best,
            "config": self.config.to_dict(),
        }

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Weights, their averages, optimisers and the objective's memory from ``state``; not the run's place."""
        self.model.load_state_dict(state["model"])
        for name, value in state["ema"].items():
            self.ema[name].copy_(value)
        for optimiser, stored in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(stored)
        self.objective.load_state(state["objective"])

    def resume(self) -> bool:
        """Go on from ``last.pt`` if there is one; says whether there was.

        Raises:
            ValueError: it is damaged, or of a run with other settings that cannot change (``config.FIXED``).
        """
        path = self.out / "last.pt"
        if not path.exists():
            return False
        parts = {"model": dict, "ema": dict, "optimisers": list, "sampler": Tensor, "noise": Tensor, "step": int}
        state = read_saved(path, parts, self.device)
        if "config" in state and (changed := changes(state["config"], self.config.to_dict())):  # older ones have none
            raise ValueError(f"{self.out} cannot be resumed with other settings: {', '.join(changed)}")
        try:
            self.load_weights(state)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is of a run with other settings than these: {reason}") from error
        self.sampler.generator.set_state(state["sampler"].cpu())
        torch.set_rng_state(state["noise"].cpu())
        if state["device_noise"] is not None and self.device.startswith("cuda"):
            torch.cuda.set_rng_state(state["device_noise"].cpu(), self.device)
        self.guard.caution = state["caution"]
        for name in ("step", "seconds", "waited", "best"):
            setattr(self, name, state[name])
        self.guard.keep()
        return True

    def _write(self, name: str, content: dict[str, Any]) -> None:
        # Whole: a run that is killed while saving keeps its previous checkpoint.
        with written_whole(self.out / name) as file:
            torch.save(content, file)

    def save(self) -> None:
        """Write ``last.pt``, and keep the same state in memory for the guard."""
        self.guard.keep()
        self._write("last.pt", self.state())

    def checkpoint(self) -> str:
        """Validate, log, write ``last.pt`` and, if it is the best so far, ``best.pt``; returns a line about it."""
        rows = self.validate()
        self._log_validation(rows)
        if (score := self.objective.score(rows)) < self.best:
            self.best = score
            config = self.config.to_dict()
            with self.averaged():  # rather than the averages by name: a codebook has several names in a state dict
                content = {"model": self.model.state_dict(), "config": config, "step": self.step, "validation": rows}
                self._write("best.pt", content)
        self.save()
        return f"step {self.step}, {self.seconds / 60:.1f} min, held out: {self.objective.describe(rows)}"

    # ---- the run

    def run(self) -> None:
        """Train until the schedule ends or SIGTERM or SIGINT asks for a clean stop (the state is saved)."""
        # Not before: settings that cannot be resumed with leave the folder as it was.
        write_whole(self.out / "config.json", f"{json.dumps(self.config.to_dict(), indent=1)}\n".encode())
        stop: list[int] = []
        previous = {s: signal.signal(s, lambda number, _: stop.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
        saved = self.seconds
        first, first_seconds, first_waited = self.step, self.seconds, self.waited
        try:
            calm = 0.1 if sys.stderr.isatty() else 30.0  # a log file wants a line now and then, not ten a second
            form = "{desc} {n} [{elapsed}, {rate_fmt}{postfix}]"
            with tqdm(desc="step", unit="step", initial=self.step, mininterval=calm, bar_format=form) as bar:
                while self.progress < 1 and not stop:
                    began = time.perf_counter()
                    measured = self.train_step()
                    self._recent.append(torch.stack([measured.loss, measured.bpp.mean(), psnr(measured.mse).mean()]))
                    means = self._means() if len(self._recent) == _LOG_STEPS else None
                    self.seconds += time.perf_counter() - began
                    bar.update()
                    if means is not None:
                        loss, bpp, decibels = means
                        self._log_training(loss, bpp, decibels)
                        seconds = self.seconds - first_seconds
                        bar.set_postfix_str(
                            f"{100 * self.progress:.1f} %, loss {loss:.3f}, {bpp:.3f} bpp, {decibels:.2f} dB, "
                            f"{self._left(seconds, self.step - first)} left, "
                            f"waiting {100 * (self.waited - first_waited) / seconds:.1f} %",
                            refresh=False,
                        )
                    if self.step % self.config.validate_every == 0:
                        bar.write(self.checkpoint(), file=sys.stderr)
                    elif self.seconds - saved > 60 * self.config.checkpoint_minutes:
                        self.save()
                        saved = self.seconds
                bar.write(self.checkpoint(), file=sys.stderr)
                bar.write(
                    self._pace(self.seconds - first_seconds, self.step - first, self.waited - first_waited),
                    file=sys.stderr,
                )
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @staticmethod
    def _pace(seconds: float, steps: int, waited: float) -> str:
        seconds = max(seconds, 1e-9)
        return (
            f"{steps} steps in {seconds / 60:.1f} min: {steps / seconds:.2f} steps a second, "
            f"{100 * waited / seconds:.1f} % of the time waiting for data"
        )

    def _left(self, seconds: float, steps: int) -> str:
        c = self.config
        left = c.minutes * 60 - self.seconds if c.minutes else (c.steps - self.step) * seconds / max(steps, 1)
        return tqdm.format_interval(max(left, 0))
