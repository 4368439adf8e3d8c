"""Plain torch twins of the kernels: the same names and arguments, obviously right, any device; triton is not loaded."""
