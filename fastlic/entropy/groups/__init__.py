"""The integer entropy path of channel groups and checkerboards: CompressAI's checkerboard and ELIC models."""
