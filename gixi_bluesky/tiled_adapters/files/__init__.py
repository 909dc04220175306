"""Result files in NeXus/HDF5: their layout, and the parts that grow during a run."""
