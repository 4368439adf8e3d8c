"""Triton kernels. The folder is installed, and always imported, as ``fastlic.kernels``."""

if __name__ != "fastlic.kernels":
    # From the repository root `import kernels` would find this folder and load every kernel a second time.
    raise ImportError("this package is imported as fastlic.kernels, not as a top-level module")
