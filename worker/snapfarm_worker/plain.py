"""Plain data between processes: what pytest's reports and `workerinput` are made of.

msgpack alone would turn tuples into lists and refuse sets, big integers and lone surrogates. This
codec keeps all of them, and needs no pickle, so decoding can't run code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import msgspec

from snapfarm_worker.errors import PlainDataError

_TUPLE, _SET, _FROZENSET, _INT, _STR, _DICT = range(1, 7)
_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1

#: Containers within containers, beyond which data is not taken for plain if anything else is odd.
_DEEPEST = 100

#: Replaces a value that is no plain data; gets the value and the path to it.
Fallback = Callable[[object, str], object]

_encoder = msgspec.msgpack.Encoder()


def refuse(value: object, path: str) -> object:
    """Raise PlainDataError: the fallback for data that may not change on its way."""
    raise PlainDataError(
        f"{path or 'the value'} is a {type(value).__qualname__}, which can't travel between "
        "processes: use str, bytes, numbers, None, or lists, tuples, sets and dicts of them"
    )


def describe(value: object, path: str) -> object:
    """Return the value's repr: the fallback for data that people only read."""
    del path
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__qualname__} whose repr() raised {type(error).__qualname__}>"


def encode(value: object, fallback: Fallback = refuse) -> bytes:
    """Encode plain data: None, bool, int, float, str, bytes, and containers of them.

    Subclasses of those (enums, say) travel as the plain value. Anything else goes through
    `fallback`; the default raises PlainDataError with the path to the value.
    """
    try:
        return _encoder.encode(_pack(value))
    except (_NotPlain, RecursionError):
        # Once more, slowly: knowing the path to each value costs more than all the rest.
        return _encoder.encode(_pack(_replaced(value, "", fallback)))


def decode(data: bytes | memoryview) -> object:
    """Return what `encode` was given. Raises msgspec.DecodeError on anything else."""
    return _decoder.decode(data)


class _NotPlain(Exception):
    """Something in the data is no plain value."""


def _pack(value: object) -> object:
    """Return what msgpack can carry; reports are made of this, so the usual types come first."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _pack_text(value)  # type: ignore[attr-defined, arg-type]  # by `kind`
    if value is None or kind is float or kind is bool or kind is bytes:
        return value
    if kind is int:
        return _pack_int(value)  # type: ignore[arg-type]  # by `kind`
    if kind is dict:
        packed = {}
        for key, inner in value.items():  # type: ignore[attr-defined]  # by `kind`
            if type(key) is not str or not key.isascii():
                return _extension(_DICT, value.items())  # type: ignore[attr-defined]  # by `kind`
            packed[key] = _pack(inner)
        return packed
    if kind is list:
        return [_pack(inner) for inner in value]  # type: ignore[attr-defined]  # by `kind`
    if kind is tuple:
        return _extension(_TUPLE, value)  # type: ignore[arg-type]  # by `kind`
    return _pack_unusual(value)


def _pack_unusual(value: object) -> object:
    if isinstance(value, str):
        return _pack_text(str.__str__(value))
    if isinstance(value, int):
        return _pack_int(int(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dict):
        return _pack(dict(value))
    if isinstance(value, list):
        return [_pack(inner) for inner in value]
    for code, container in ((_TUPLE, tuple), (_SET, set), (_FROZENSET, frozenset)):
        if isinstance(value, container):
            return _extension(code, value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise _NotPlain


def _pack_int(number: int) -> object:
    if _MIN_INT <= number <= _MAX_INT:
        return number
    return msgspec.msgpack.Ext(_INT, hex(number).encode())


def _pack_text(text: str) -> object:
    try:
        text.encode()
    except UnicodeEncodeError:
        return msgspec.msgpack.Ext(_STR, text.encode("utf-8", "surrogatepass"))
    return text


def _extension(code: int, values: Iterable[object]) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, _encoder.encode([_pack(inner) for inner in values]))


def _replaced(value: object, path: str, fallback: Fallback, inside: tuple[int, ...] = ()) -> object:
    """Return the data with the fallback's answer in the place of what is not plain.

    `inside` are the ids of the containers around the value: one that contains itself is not plain,
    nor is what lies deeper than anybody can read.
    """
    if isinstance(value, dict | list | tuple | set | frozenset):
        if id(value) in inside or len(inside) >= _DEEPEST:
            return fallback(value, path)
        inside = (*inside, id(value))
    if isinstance(value, dict):
        return {
            _replaced(key, f"{path} key", fallback, inside): _replaced(
                inner, f"{path}[{key!r}]", fallback, inside
            )
            for key, inner in value.items()
        }
    for container in (list, tuple, set, frozenset):
        if isinstance(value, container):
            return container(
                _replaced(inner, f"{path}[{i}]", fallback, inside) for i, inner in enumerate(value)
            )
    try:
        _pack(value)
    except _NotPlain:
        return fallback(value, path)
    return value


def _unpack(code: int, data: memoryview) -> object:
    if code == _TUPLE:
        return tuple(_list(data))
    if code == _SET:
        return set(_list(data))
    if code == _FROZENSET:
        return frozenset(_list(data))
    if code == _DICT:
        return {pair[0]: pair[1] for pair in _list(data) if isinstance(pair, tuple)}
    if code == _INT:
        return int(bytes(data), 16)
    if code == _STR:
        return str(bytes(data), "utf-8", "surrogatepass")
    raise msgspec.DecodeError(f"unknown extension {code} in plain data")


def _list(data: memoryview) -> list[object]:
    value = _decoder.decode(data)
    if not isinstance(value, list):
        raise msgspec.DecodeError("an extension of plain data holds no list")
    return value


_decoder: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(
    ext_hook=functools.partial(_unpack)
)
