"""Forward and backward pass of a training step: eager, or on a GPU as one CUDA graph that is replayed.

MLIC++ has thousands of small kernels a step, which a host would launch one by one. A graph is captured once, at the
first step, and holds the addresses of its inputs and gradients. It is captured on a stream of its own, since cuBLAS has
one workspace for each stream: graphs of several trainers in one process may then be replayed at the same time.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from fastlic.train.objectives import Measured, Objective

_WARM_UP = 3  # passes that let libraries choose their algorithms before the capture


class Gradients:
    """Leaves the gradients of a batch's loss in ``.grad`` of the objective's model.

    Args:
        objective: whose ``measure`` is differentiated.
        parameters: that have gradients.
        autocast: bfloat16 for convolutions and matrix products.
        graph: capture; only where batches keep their shape, on a GPU. Where the capture fails, steps are eager and a
            line on stderr says why.
    """

    def __init__(self, objective: Objective, parameters: list[Tensor], autocast: bool, graph: bool) -> None:
        self.objective, self.parameters, self.autocast, self.graph = objective, parameters, autocast, graph
        self._captured: tuple[torch.cuda.CUDAGraph, Tensor, Tensor, Measured] | None = None

    def __call__(self, x: Tensor, drawn: Tensor) -> Measured:
        """x [N, 3, H, W] in [0, 1] and ``drawn`` as ``Objective.draw`` gave it, both on the model's device.

        What is returned is overwritten by the next call where it is a graph's.
        """
        if self.graph and self._captured is None:
            try:
                self._capture(x, drawn)
            except Exception as error:
                torch.cuda.synchronize()
                self.graph = False
                print(f"no CUDA graph, steps are eager: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        if self._captured is None:
            return self._pass(x, drawn)
        graph, x_held, drawn_held, measured = self._captured
        x_held.copy_(x)
        drawn_held.copy_(drawn)
        graph.replay()
        return measured

    def _pass(self, x: Tensor, drawn: Tensor) -> Measured:
        for p in self.parameters:
            p.grad = None
        # The cache of cast weights would keep memory of the graph alive outside of it.
        cached = self._captured is None and not self.graph
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast, cache_enabled=cached):
            measured = self.objective.measure(x, drawn)
        total = measured.loss if measured.auxiliary is None else measured.loss + measured.auxiliary
        total.backward()
        return Measured(
            measured.loss.detach(), measured.bpp.detach(), measured.mse.detach(),
            None if measured.auxiliary is None else measured.auxiliary.detach(),
        )  # fmt: skip

    def _capture(self, x: Tensor, drawn: Tensor) -> None:
        # Noise and running figures of the warm-up are taken back, so that a resumed run equals an uninterrupted one.
        state = {name: value.clone() for name, value in self.objective.model.state_dict().items()}
        noise = torch.cuda.get_rng_state(x.device)
        x_held, drawn_held = x.clone(memory_format=torch.preserve_format), drawn.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._pass(x_held, drawn_held)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may have trainers of their own, which go on meanwhile.
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                measured = self._pass(x_held, drawn_held)
        finally:
            self.objective.model.load_state_dict(state)
            torch.cuda.set_rng_state(noise, x.device)
        self._captured = graph, x_held, drawn_held, measured
