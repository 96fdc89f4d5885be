"""Arguments in the forms that people write them."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from . import _abi
from .errors import InvalidArgumentError

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", 1):
    _UNITS[_letter] = _UNITS[_letter + "ib"] = 1024**_power
    _UNITS[_letter + "b"] = 1000**_power


def size(value: int | str | None, name: str) -> int:
    """Bytes: a number, or a text such as "4GiB", "512 MB" or "1.5G" (K, M, G, T alone count by 1024). None is 0."""
    if value is None:
        return 0
    if isinstance(value, str):
        import re  # only here, and it takes a while

        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        unit = _UNITS.get(match.group(2).lower()) if match else None
        if match is None or unit is None:
            raise InvalidArgumentError(f'{name} must be a number of bytes or a text such as "4GiB", not {value!r}')
        value = int(float(match.group(1)) * unit) if "." in match.group(1) else int(match.group(1)) * unit
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int or a str, not {type(value).__name__}")
    number = value.__index__()
    if not 0 < number < 2**63:
        raise InvalidArgumentError(f"{name} must be more than 0 bytes and less than 2**63, not {number}")
    return number


def count(value: Any, name: str) -> int:
    """A number of bytes, 0 included."""
    try:
        number: int = value.__index__()
    except AttributeError:
        raise TypeError(f"{name} must be an int, not {type(value).__name__}") from None
    if not 0 <= number < 2**63:
        raise InvalidArgumentError(f"{name} must be 0 or more and less than 2**63, not {number}")
    return number


def choice(value: Any, name: str, choices: Mapping[str, int]) -> int:
    """The number behind a name."""
    try:
        return choices[value]
    except (KeyError, TypeError):
        raise InvalidArgumentError(
            f"{name} must be one of {', '.join(map(repr, choices))}, not {_shown(value)}"
        ) from None


def _shown(value: Any) -> str:
    """A value in a message. Only what is short: an array would be pages, or fail."""
    return repr(value) if type(value) in (str, int, bool, type(None)) else f"a {type(value).__name__}"


def shape(value: Any) -> tuple[int, ...]:
    """A shape: a number or a sequence of numbers."""
    try:
        sizes = (value,) if hasattr(value, "__index__") else tuple(value)
        numbers = tuple(map(operator.index, sizes))
    except TypeError:
        raise TypeError(f"shape must be an int or several, not {_shown(value)}") from None
    if len(numbers) > _abi.MAX_DIMS or not all(0 <= n < 2**63 for n in numbers):
        raise InvalidArgumentError(f"shape must have at most {_abi.MAX_DIMS} sizes from 0 to 2**63 - 1: {numbers}")
    return numbers


def _number(value: Any) -> float:
    if isinstance(value, (str, bytes, bytearray)):  # which float() would read
        raise TypeError
    return float(value)


def seconds(value: Any, name: str) -> float:
    """A time to wait. None is for ever."""
    if value is None:
        return math.inf
    try:
        number = _number(value)
    except OverflowError:  # an int that no float holds
        number = math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number of seconds or None, not {_shown(value)}") from None
    if not number >= 0:
        raise InvalidArgumentError(f"{name} must be 0 or more seconds, not {number}")
    return number
