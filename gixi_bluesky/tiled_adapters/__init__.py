"""What is stored in Tiled and HDF5, and how it is read back; needs no torch."""
