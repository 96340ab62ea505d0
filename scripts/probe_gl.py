"""Exit 0 if a headless OpenGL can be reached: EGL with at least one device, or OSMesa. Standard library only, 0.1 s."""

import ctypes
import sys


def egl_devices() -> int:
    """The number of EGL devices (Mesa's software device counts), 0 without a usable libEGL and libGL."""
    try:
        ctypes.CDLL("libGL.so.1")
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return 0
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return 0
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(address)
    count = ctypes.c_int(0)
    return count.value if query(0, None, ctypes.byref(count)) else 0


def has_osmesa() -> bool:
    """Whether libOSMesa loads under one of the names that Debian gave it."""
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


if __name__ == "__main__":
    sys.exit(0 if egl_devices() > 0 or has_osmesa() else 1)
