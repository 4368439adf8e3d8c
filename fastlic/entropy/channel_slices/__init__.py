"""The integer entropy path of channel slices: WACNN, STF, TCM and the models of their kind."""
