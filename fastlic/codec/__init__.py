"""From pixels to bytes and back: the container, image files, and the codec that drives an entropy model."""
