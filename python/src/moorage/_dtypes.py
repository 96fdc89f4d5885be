"""Names of element types, and the triples (code, bits, lanes) by which DLPack knows them.

The names are those of torch and numpy, which agree wherever both have the type.
"""

from __future__ import annotations

Triple = tuple[int, int, int]

TRIPLES: dict[str, Triple] = {
    "bool": (6, 8, 1),
    "int8": (0, 8, 1),
    "int16": (0, 16, 1),
    "int32": (0, 32, 1),
    "int64": (0, 64, 1),
    "uint8": (1, 8, 1),
    "uint16": (1, 16, 1),
    "uint32": (1, 32, 1),
    "uint64": (1, 64, 1),
    "float16": (2, 16, 1),
    "float32": (2, 32, 1),
    "float64": (2, 64, 1),
    "bfloat16": (4, 16, 1),
    "complex32": (5, 32, 1),
    "complex64": (5, 64, 1),
    "complex128": (5, 128, 1),
    "float8_e3m4": (7, 8, 1),
    "float8_e4m3": (8, 8, 1),
    "float8_e4m3b11fnuz": (9, 8, 1),
    "float8_e4m3fn": (10, 8, 1),
    "float8_e4m3fnuz": (11, 8, 1),
    "float8_e5m2": (12, 8, 1),
    "float8_e5m2fnuz": (13, 8, 1),
    "float8_e8m0fnu": (14, 8, 1),
    # Two numbers a byte. The first counts numbers in its shape, the second (torch's) bytes.
    "float4_e2m1fn": (17, 4, 1),
    "float4_e2m1fn_x2": (17, 4, 2),
}

NAMES: dict[Triple, str] = {triple: name for name, triple in TRIPLES.items()}

# What numpy has without ml_dtypes.
NUMPY_OWN = frozenset(
    name for name, (code, bits, _) in TRIPLES.items() if code in (0, 1, 2, 6) or (code == 5 and bits >= 64)
)


def name_of(code: int, bits: int, lanes: int) -> str | None:
    """The name of a triple; None for plain bytes (all zero)."""
    if not (code or bits or lanes):
        return None
    return NAMES.get((code, bits, lanes), f"code {code}, {bits} bits, {lanes} lanes")
