"""Random weights and latents that behave like trained ones, for tests, fuzzing and timing; never for quality."""
