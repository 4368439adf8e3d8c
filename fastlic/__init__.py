"""fastlic."""
