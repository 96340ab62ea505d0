"""Read an HDF5 file through, to no end but to see whether the process lives on. `hdf5.check_harmless` runs this file.

The HDF5 library may crash on a damaged file, and takes its process with it.
"""

import contextlib
import resource
import sys

import h5py

MEMORY = 2**32  # bytes: a file that asks for more is judged by its sizes, before anything is read


def read(group: h5py.Group) -> None:
    """Read all arrays and attributes below a group."""
    list(group.attrs.items())
    for name in group:
        with contextlib.suppress(Exception):  # what Python can tell, whoever imports the file is told anyway
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                read(item)
            elif isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
                list(item.attrs.items())
                item[()]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with contextlib.suppress(Exception), h5py.File(sys.argv[1], "r") as file:
        read(file)
