"""Stands in for torchvision, whose builds must match torch exactly; CompressAI imports it."""
