"""Eigenvalues of a large symmetric matrix by two-stage reduction, from the LAPACK that numpy brings along.

numpy's eigvalsh reduces a matrix to tridiagonal form in one stage, half of whose work waits for memory. By
way of a band matrix (Bischof, Lang & Sun 2000) the large stage is matrix products throughout, in about half
the time. LAPACK has had this since 3.7 and numpy's own wheels carry it, but numpy does not call it.
"""

from __future__ import annotations

import ctypes
import importlib
from functools import cache

import numpy as np

from lorabench.spectra.model import Float64Array

SMALLEST = 1024
"""Below this side one stage is as fast."""
_BAND = 48
"""Subdiagonals between the stages: more make the first stage faster and the second slower."""
_ROUNDING = 1e-12


def reduce_in_place(matrix: Float64Array) -> Float64Array | None:
    """Return the eigenvalues of a symmetric matrix (n, n), float64, ascending; None where that fails.

    Works in the matrix's own diagonal and upper triangle, which are lost; the lower one is not touched. None
    where numpy was built with another LAPACK (MKL, Accelerate) or the matrix does not lie as it is wanted,
    which leaves it as it was, and where the result has not the matrix's trace and Frobenius norm.
    """
    lapack = _lapack()
    lies_well = matrix.flags.carray and matrix.dtype == np.float64  # whole, writable, in C's order
    if lapack is None or len(matrix) <= _BAND or not lies_well:
        return None
    with np.errstate(over="ignore", invalid="ignore"):  # squares out of range: the comparison fails then
        trace, norm = float(np.trace(matrix)), float(np.linalg.norm(matrix))
        values = _reduce(lapack, matrix)
        if values is None:
            return None
        allowed = _ROUNDING * len(values) * norm
        same = abs(values.sum() - trace) <= allowed and abs(np.linalg.norm(values) - norm) <= allowed
    return values if same else None


@cache
def _lapack() -> ctypes.CDLL | None:
    """Return the library with 64-bit integers that numpy's wheels bring, None where numpy has another one."""
    try:
        # The symbols of what it is linked with are found by its own handle.
        library = ctypes.CDLL(importlib.import_module("numpy.linalg._umath_linalg").__file__)
        for name in ("dsytrd_sy2sb", "dsytrd_sb2st", "dsterf"):
            _routine(library, name).restype = None
    except (ImportError, OSError, AttributeError, TypeError):
        return None
    return library


def _routine(library: ctypes.CDLL, name: str) -> ctypes._NamedFuncPointer:
    return getattr(library, f"scipy_{name}_64_")  # type: ignore[no-any-return]


def _reduce(library: ctypes.CDLL, matrix: Float64Array) -> Float64Array | None:
    """Go from full to band, to tridiagonal, to eigenvalues; Fortran's lower triangle is C's upper one."""
    n, band = len(matrix), np.empty((len(matrix), _BAND + 1))
    reflectors, diagonal, beside = np.empty(n), np.empty(n), np.empty(n)
    info = ctypes.c_int64()

    def call(name: str, *arguments: str | int | Float64Array) -> None:
        lengths = [ctypes.c_size_t(1) for argument in arguments if isinstance(argument, str)]
        _routine(library, name)(*map(_reference, arguments), ctypes.byref(info), *lengths)

    def call_with_space(name: str, *arguments: str | int | Float64Array, spaces: int) -> None:
        """Ask how much work space the routine wants, and call it with that."""
        asked = [np.empty(1) for _ in range(spaces)]
        call(name, *arguments, *(part for space in asked for part in (space, -1)))
        if info.value:
            return
        given = [np.empty(max(1, int(space[0]))) for space in asked]
        call(name, *arguments, *(part for space in given for part in (space, len(space))))

    first = (n, _BAND, matrix, n, band, _BAND + 1, reflectors)
    call_with_space("dsytrd_sy2sb", "L", *first, spaces=1)
    if info.value == 0:
        second = (n, _BAND, band, _BAND + 1, diagonal, beside)
        call_with_space("dsytrd_sb2st", "Y", "N", "L", *second, spaces=2)
    if info.value == 0:
        call("dsterf", n, diagonal, beside)
    return diagonal if info.value == 0 else None


def _reference(argument: str | int | Float64Array) -> object:
    """Return what Fortran takes for an argument: the address of it."""
    if isinstance(argument, str):
        return ctypes.c_char_p(argument.encode())
    if isinstance(argument, int):
        return ctypes.byref(ctypes.c_int64(argument))
    return argument.ctypes.data_as(ctypes.c_void_p)
