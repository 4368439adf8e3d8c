"""Rate-distortion evaluation: real bytes, distortion, times, and other codecs on the same images."""

from fastlic.evaluate.bd_rate import bd_rate
from fastlic.evaluate.metrics import ms_ssim, psnr
from fastlic.evaluate.run import Record, evaluate, evaluate_peer, same_latents

__all__ = ["Record", "bd_rate", "evaluate", "evaluate_peer", "ms_ssim", "psnr", "same_latents"]
