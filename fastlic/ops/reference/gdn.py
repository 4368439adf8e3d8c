"""GDN in plain float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gdn(x: NDArray[np.floating], beta: NDArray[np.floating], gamma: NDArray[np.floating], inverse: bool) -> NDArray:
    """x [..., C] -> float64 [..., C]."""
    wide = x.astype(np.float64)
    norm = np.sqrt(beta.astype(np.float64) + wide**2 @ gamma.astype(np.float64).T)
    return wide * norm if inverse else wide / norm
