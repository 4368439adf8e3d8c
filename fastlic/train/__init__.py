"""Training: one trainer for the families, with resumable state."""
