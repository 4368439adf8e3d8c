"""Networks of integers: fixed point, layers and their plain reference, conversion from float weights, storage.

Every family is made of these. Engines and kernels must equal the reference bit for bit.
"""
