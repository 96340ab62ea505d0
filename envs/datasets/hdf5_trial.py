"""Read an HDF5 file through, to no end but to see whether the process lives on. `hdf5.check_harmless` runs this file.

The HDF5 library may crash on a damaged file, and takes its process with it.
"""

import contextlib
import resource
import sys

import h5py

MEMORY = 2**32  # bytes
DEFLATE = 1032  # bytes that gzip can make of one: arrays that say more are refused unread


def read(group: h5py.Group, seen: set[int]) -> None:
    """Read all arrays and attributes below a group, but those whose address was `seen`: a file may hold circles."""
    list(group.attrs.items())
    for name in group:
        with contextlib.suppress(Exception):  # what Python can tell, whoever imports the file is told anyway
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                read(item, seen)
            elif isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
                list(item.attrs.items())
                if item.nbytes <= DEFLATE * item.id.get_storage_size():
                    item[()]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with contextlib.suppress(Exception), h5py.File(sys.argv[1], "r") as file:
        read(file, set())
