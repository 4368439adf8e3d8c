"""How likely each word is, given the words around: what McQuic's own codec, with one frequency per word, leaves unused.

Codes of the finest level are coded in raster order, at each position group by group (an autoregressive prior over
codes, as van den Oord et al. 2017 put behind VQ-VAE, here of one hidden size and four neighbours):

    e = embeddings of the words at ``OFFSETS``, group by group, then of earlier groups at the same position
    p(word) = softmax(L relu(S relu(F e)))      F, S, L: one set of affine layers per group

The words, and with them the image, are McQuic's; only their coding is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

OFFSETS = ((0, -1), (-1, 0), (-1, -1), (-1, 1))  # (rows, columns) to the positions that are looked at, all decoded


class CodeContext(nn.Module):
    """Logits of one level's codes, [n, k] for n positions and one group at a time.

    Args:
        m: groups.
        k: words of each group's codebook.
        depth: channels of an embedding.
        width: of the two hidden layers.

    Where a position lies outside of the image its words are number k, which has an embedding of its own.
    """

    def __init__(self, m: int, k: int, depth: int = 24, width: int = 96) -> None:
        super().__init__()
        self.m, self.k, self.depth, self.width = m, k, depth, width
        self.words = nn.ModuleList(nn.Embedding(k + 1, depth) for _ in range(m))
        inputs = [depth * (len(OFFSETS) * m + group) for group in range(m)]
        self.first = nn.ModuleList(nn.Linear(n, width) for n in inputs)
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(m))
        self.last = nn.ModuleList(nn.Linear(width, k) for _ in range(m))
        for words in self.words:
            nn.init.normal_(words.weight, std=0.3)  # type: ignore[arg-type]

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"m": self.m, "k": self.k, "depth": self.depth, "width": self.width}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Self:
        """A context of the right size with the given weights, in eval mode.

        Raises:
            ValueError: it is no state dict of a code context.
        """
        m = sum(name.startswith("words.") for name in state)
        words, second = state.get("words.0.weight"), state.get("second.0.weight")
        if words is None or second is None or words.ndim != 2 or second.ndim != 2:
            raise ValueError("not a state dict of a code context: words.0.weight and second.0.weight are expected")
        context = cls(m, len(words) - 1, words.shape[1], len(second))
        try:
            context.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"state dict does not fit a code context: {error}") from error
        return context.eval()

    def rows(self, codes: Tensor) -> Tensor:
        """codes int64 [n, m, h, w] -> int64 [n h w, len(OFFSETS) m + m]: words around, offset by offset, then own."""
        _, _, h, w = codes.shape
        padded = F.pad(codes, (1, 1, 1, 0), value=self.k)
        around = [padded[:, :, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w] for dy, dx in OFFSETS]
        return torch.cat([*around, codes], 1).permute(0, 2, 3, 1).flatten(0, 2)

    def hidden(self, rows: Tensor, group: int) -> tuple[Tensor, Tensor]:
        """Activations of both hidden layers, [n, width] each, from what ``rows`` gave."""
        known = rows[:, : len(OFFSETS) * self.m + group]
        embedded = [self.words[i % self.m](column) for i, column in enumerate(known.unbind(1))]
        first = F.relu(self.first[group](torch.cat(embedded, 1)))
        return first, F.relu(self.second[group](first))

    def logits(self, rows: Tensor, group: int) -> Tensor:
        """[n, k], natural logarithms up to a constant per row, from what ``rows`` gave."""
        logits: Tensor = self.last[group](self.hidden(rows, group)[1])
        return logits

    def forward(self, rows: Tensor) -> Tensor:
        """Bits of a position's codes, the mean over the n positions in ``rows``; a scalar to be made small."""
        nats = [F.cross_entropy(self.logits(rows, g).float(), rows[:, g - self.m]) for g in range(self.m)]
        return torch.stack(nats).sum() / torch.log(torch.tensor(2.0))
