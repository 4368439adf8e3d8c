"""Plain twins of the fast operations, written to be read. Tests hold the fast ones to these, bit for bit."""
