"""Datasets of frames: positive pairs, recorded episodes, and their exchange with HDF5 and Minari."""
