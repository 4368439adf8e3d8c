"""Everything that decides a run, read from TOML or JSON and written beside the checkpoints as ``config.json``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from typing_extensions import Self

from fastlic.files import check_types, read_bounded, read_json

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPES = Path(__file__).resolve().parent / "recipes"
METRICS = ("mse", "ms-ssim")
DECAYS = ("linear", "cosine")
# What the state of a run is made of, or what only its first step asked for: it cannot change when a run is resumed.
FIXED = ("family", "model", "start", "optimiser", "kernel_rate", "rates", "stored", "seed")


@dataclass
class RunConfig:
    """One run. A family's shipped recipe sets the defaults; a file of the user's and the command line go over it."""

    family: str
    model: dict[str, Any] = field(default_factory=dict)  # arguments of the model's constructor
    objective: dict[str, Any] = field(default_factory=dict)  # settings of the family's objective
    metric: str = "mse"
    start: str = "random"  # "random", "klt" (families with JAHP's transforms), or the path of weights to start from
    batch: int = 8
    crop: int = 128
    minutes: float = 0.0  # the schedule's length in minutes of training, or
    steps: int = 0  # in steps; exactly one of the two
    lr: float = 1e-3
    warmup: int = 200  # steps in which the rate rises from zero
    decay: str = "linear"  # how it falls to 2 % of its peak: "linear" or "cosine"
    decay_from: float = 0.3  # share of the run after which it falls
    optimiser: str = "muon"  # of the kernels: "muon" or "adam"; everything else has Adam
    kernel_rate: float = 0.25  # factor on the learning rate of the kernels
    rates: dict[str, float] = field(default_factory=dict)  # further factors by prefix of the name; 0 freezes
    stored: int = 0  # orientations of every tile whose latents are computed once, beside a frozen g_a; 0: none are
    ema: float = 0.999
    clip: float = 1.0
    autocast: bool = True  # bfloat16 for convolutions where the device multiplies it faster than float32
    graph: bool = True  # on a GPU, replay each step's passes from a CUDA graph rather than launch their kernels
    seed: int = 1
    validate_every: int = 2000  # steps
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        check_types(type(self), vars(self))
        for name in ("batch", "crop", "lr", "warmup", "validate_every"):
            if (value := getattr(self, name)) <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        for name in ("minutes", "steps", "checkpoint_minutes", "stored"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if bool(self.minutes) == bool(self.steps):
            raise ValueError("give the run's length either in minutes or in steps")
        for name, allowed in (("metric", METRICS), ("decay", DECAYS), ("optimiser", ("muon", "adam"))):
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {value!r}")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """The run that ``settings`` describe; settings of no such name are refused by name."""
        known = [f.name for f in fields(cls)]
        if unknown := sorted(settings.keys() - set(known)):
            raise ValueError(f"no such setting: {', '.join(unknown)}; there are {', '.join(known)}")
        if "family" not in settings:
            raise ValueError("the configuration names no family")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """What ``from_dict`` takes."""
        return asdict(self)


def read(path: Path) -> dict[str, Any]:
    """Settings in a .toml or .json file.

    Raises:
        ValueError: another suffix, or no valid TOML or JSON.
    """
    if path.suffix == ".json":
        return read_json(path)
    if path.suffix == ".toml":
        try:
            return tomllib.loads(read_bounded(path, 1 << 20).decode())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no TOML: {error}") from error
    raise ValueError(f"configurations are .toml or .json files, got {path.name!r}")


def recipe(family: str) -> dict[str, Any]:
    """Settings of the recipe that ships for ``family``; without one, of the family alone."""
    path = RECIPES / f"{family.replace('+', 'p')}.toml"  # MLIC++ is mlicpp where a plus would need quoting
    return read(path) if path.is_file() else {"family": family}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` on top; tables are merged, a length in minutes replaces one in steps and vice versa."""
    result = dict(base)
    if {"minutes", "steps"} & over.keys():
        result |= {"minutes": 0.0, "steps": 0}
    for key, value in over.items():
        below = result.get(key)
        result[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, Mapping) else value
    return result


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings among ``FIXED`` that are not what they were, in words; tables by their keys."""
    found = []
    for name in FIXED:
        old, new = (_flat(name, settings.get(name)) for settings in (before, now))
        found += [
            f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
            for key in (*old, *(key for key in new if key not in old))
            if old.get(key) != new.get(key)
        ]
    return found


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {f"{name}.{key}": list(own) if isinstance(own, tuple) else own for key, own in value.items()}
