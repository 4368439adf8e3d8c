"""What the integer paths of MLIC and of channel groups share: layers, tables and passes of a checkerboard."""
