"""The integer entropy path of channel slices: WACNN, TCM and models of their kind."""
