"""Plain data between processes: what pytest's reports and `workerinput` are made of.

msgpack alone would turn tuples into lists and refuse sets, big integers and lone surrogates. This
codec keeps all of them, and needs no pickle, so decoding can't run code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import msgspec

from snapfarm_worker.errors import PlainDataError

_TUPLE, _SET, _FROZENSET, _INT, _STR, _DICT = range(1, 7)
_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1

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
    return _encoder.encode(_pack(value, "", fallback))


def decode(data: bytes | memoryview) -> object:
    """Return what `encode` was given. Raises msgspec.DecodeError on anything else."""
    return _decoder.decode(data)


def _pack(value: object, path: str, fallback: Fallback) -> object:
    kind = type(value)
    if value is None or kind is bool or kind is float or kind is bytes:
        return value
    if isinstance(value, str):
        text = value if kind is str else str.__str__(value)
        return text if text.isascii() else _pack_text(text)
    if isinstance(value, int):
        number = int(value)
        if _MIN_INT <= number <= _MAX_INT:
            return number
        return msgspec.msgpack.Ext(_INT, hex(number).encode())
    if isinstance(value, float):
        return float(value)
    if isinstance(value, list):
        return [_pack(v, f"{path}[{i}]", fallback) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return _extension(_TUPLE, value, path, fallback)
    if isinstance(value, dict):
        if all(type(key) is str and key.isascii() for key in value):
            return {k: _pack(v, f"{path}[{k!r}]", fallback) for k, v in value.items()}
        return _extension(_DICT, tuple(value.items()), path, fallback)
    if isinstance(value, set):
        return _extension(_SET, tuple(value), path, fallback)
    if isinstance(value, frozenset):
        return _extension(_FROZENSET, tuple(value), path, fallback)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return _pack(fallback(value, path), path, refuse)


def _pack_text(text: str) -> object:
    try:
        text.encode()
    except UnicodeEncodeError:
        return msgspec.msgpack.Ext(_STR, text.encode("utf-8", "surrogatepass"))
    return text


def _extension(
    code: int, values: tuple[object, ...], path: str, fallback: Fallback
) -> msgspec.msgpack.Ext:
    packed = [_pack(v, f"{path}[{i}]", fallback) for i, v in enumerate(values)]
    return msgspec.msgpack.Ext(code, _encoder.encode(packed))


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
