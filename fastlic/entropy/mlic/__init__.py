"""The integer entropy path of MLIC, MLIC+ and MLIC++."""
