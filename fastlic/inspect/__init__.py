"""Analyses of codecs and of what they code, by the public methods of ``fastlic.Codec``: ``fastlic inspect``."""
