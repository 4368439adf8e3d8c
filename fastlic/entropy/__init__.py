"""Schedules, tables and the integer entropy path: everything between the latents and the coder."""

from fastlic.ops.gaussian import decode_gaussian, encode_gaussian

__all__ = ["decode_gaussian", "encode_gaussian"]
