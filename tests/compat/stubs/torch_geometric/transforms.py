"""Base classes that CompressAI derives point-cloud transforms from."""

BaseTransform = Center = object
