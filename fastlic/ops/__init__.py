"""One function per operation: checks in words, then a visible table of implementations."""
