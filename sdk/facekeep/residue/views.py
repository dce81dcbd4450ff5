"""Ways in which bytes that were written may hold other bytes: hexadecimal, Base64, escapes, numbers as text, compression.

Instead of guessing how a secret was encoded, what was written is decoded in each way that it could be read, and the result is
searched for the plain secret. Alignment then takes care of itself.
"""

from __future__ import annotations

import base64
import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_HEX_RUN: Final = re.compile(rb"[0-9a-fA-F]{32,}")
_HEX_NOISE: Final = re.compile(rb"\\x|0x|[\s:,;|\"'\[\]()-]")
_BASE64_RUN: Final = re.compile(rb"[A-Za-z0-9+/_-]{24,}")
_BASE64_NOISE: Final = re.compile(rb"\\n|[\s\"']")
_BASE64_URL: Final = bytes.maketrans(b"-_", b"+/")
_BASE32_RUN: Final = re.compile(rb"[A-Z2-7]{32,}")
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|u00([0-9a-fA-F]{2})|([0-7]{3})|([abfnrtv0\\'\"]))")
_PLAIN_ESCAPES: Final = dict(zip(b"abfnrtv0\\'\"", b"\a\b\f\n\r\t\v\0\\'\"", strict=True))
_NUMBER: Final = re.compile(rb"-?(?:\d{1,32}\.?\d{0,32}|\.\d{1,32})(?:[eE][-+]?\d{1,3})?")
_FEWEST_NUMBERS: Final = 8
_FEWEST_WHOLE_NUMBERS: Final = 16
_COMPRESSED: Final = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08|BZh[1-9]1AY&SY|\xfd7zXZ\x00|PK\x03\x04")
_LARGEST_INFLATED: Final = 1 << 25
_PIECE: Final = 64
_PICTURE: Final = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff[\xdb\xe0-\xef]..(?:JFIF|Exif)\x00|GIF8[79]a|RIFF....WEBP|\x93NUMPY|ftypavif|\xff\x4f\xff\x51\x00",
    re.DOTALL,
)
_DEPTH: Final = 2
# Between runs that were decoded one by one: no window reaches over it by chance.
_SEPARATOR: Final = b"\n"


def views(data: bytes, depth: int = _DEPTH) -> Iterator[tuple[str, bytes]]:
    """Yield `data` and everything it decodes to, with the way it was decoded.

    Args:
        data: what was written.
        depth: how many encodings may lie around one another (Base64 of zlib is two).
    """
    yield "", data
    if depth == 0:
        return
    for name, decode in _DECODERS:
        for decoded in decode(data):
            if len(decoded) >= 16:
                for inner, view in views(decoded, depth - 1):
                    yield (f"{name}, {inner}" if inner else name), view


def picture_format(data: bytes) -> str | None:
    """Return the beginning of a picture or array file inside `data`, or None: a lossy one holds no byte of the original."""
    found = _PICTURE.search(data)
    if found is None:
        return None
    names = {b"\x89": "PNG", b"\xff": "JPEG", b"G": "GIF", b"R": "WebP", b"\x93": "NPY", b"f": "AVIF"}
    return names[found.group()[:1]]


def numbers(data: bytes) -> NDArray[np.float64]:
    """Return the decimal numbers in `data`, in order; empty where there are few."""
    found = _NUMBER.findall(data)
    if len(found) < _FEWEST_NUMBERS:
        return np.empty(0)
    with np.errstate(over="ignore"):
        return np.array([float(each) for each in found])


def holds_vector(values: NDArray[np.float64], vector: NDArray[np.float32], run: int = 6, tolerance: float = 6e-4) -> bool:
    """Whether `run` components of `vector` in a row stand among decimal numbers, rounded to three places or better."""
    if values.size < run or vector.size < run:
        return False
    wanted = vector.astype(np.float64)
    block = max((1 << 20) // vector.size, run)
    for start in range(0, values.size, block):
        part = values[start : start + block + run - 1]
        close = np.abs(part[:, None] - wanted[None, :]) <= tolerance
        rows, columns = close.shape[0] - run + 1, close.shape[1] - run + 1
        if rows < 1:
            continue
        matched = np.ones((rows, columns), np.bool_)
        for step in range(run):
            matched &= close[step : step + rows, step : step + columns]
        if matched.any():
            # Zeros stand beside each other everywhere: a run has to say something.
            places = np.flatnonzero(matched.any(axis=0))
            if any((np.abs(wanted[place : place + run]) > 8 * tolerance).sum() >= run - 2 for place in places):
                return True
    return False


def _hexadecimal(data: bytes) -> Iterator[bytes]:
    runs = _HEX_RUN.findall(_HEX_NOISE.sub(b"", data))
    for shift in (0, 1) if runs else ():
        yield _SEPARATOR.join(bytes.fromhex(_whole(run, shift, 2).decode("ascii")) for run in runs)


def _base64(data: bytes) -> Iterator[bytes]:
    runs = [run.translate(_BASE64_URL) for run in _BASE64_RUN.findall(_BASE64_NOISE.sub(b"", data))]
    for shift in range(4) if runs else ():
        yield _SEPARATOR.join(base64.b64decode(_whole(run, shift, 4)) for run in runs)


def _base32(data: bytes) -> Iterator[bytes]:
    runs = _BASE32_RUN.findall(_BASE64_NOISE.sub(b"", data))
    for shift in range(8) if runs else ():
        yield _SEPARATOR.join(base64.b32decode(_whole(run, shift, 8)) for run in runs)


def _whole(run: bytes, shift: int, unit: int) -> bytes:
    """Return the whole units of `run` from `shift` on: nobody says where in a run the encoding begins."""
    return run[shift : shift + (len(run) - shift) // unit * unit]


def _escaped(data: bytes) -> Iterator[bytes]:
    # repr() of bytes, and the escapes of JSON and C.
    if data.count(b"\\") >= 8:
        yield _ESCAPE.sub(_unescape, data)


def _unescape(found: re.Match[bytes]) -> bytes:
    pair, unicode, octal, letter = found.groups()
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    return bytes([_PLAIN_ESCAPES[letter[0]]]) if letter else bytes.fromhex((pair or unicode).decode("ascii"))


def _latin1(data: bytes) -> Iterator[bytes]:
    # Bytes taken for Latin-1 text and written as UTF-8.
    if data.count(b"\xc2") + data.count(b"\xc3") >= 4:
        yield data.decode("utf-8", "ignore").encode("latin-1", "ignore")


def _decimal(data: bytes) -> Iterator[bytes]:
    values = numbers(data)
    whole = values[(values == np.rint(values)) & (values >= -128) & (values <= 255)]
    if whole.size >= _FEWEST_WHOLE_NUMBERS:
        yield (whole.astype(np.int64) & 0xFF).astype(np.uint8).tobytes()


def _inflated(data: bytes) -> Iterator[bytes]:
    for found in _COMPRESSED.finditer(data):
        magic, start = found.group()[:2], found.start()
        decompressor: Any
        if magic == b"BZ":
            decompressor = bz2.BZ2Decompressor()
        elif magic == b"\xfd7":
            decompressor = lzma.LZMADecompressor()
        elif magic == b"PK":
            # Local header of a zip: 30 bytes, then the name and the extra field; the content is a raw deflate stream.
            decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
            start += 30 + sum(int.from_bytes(data[start + at : start + at + 2], "little") for at in (26, 28))
        else:
            decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
        yield _whatever_comes(decompressor, data[start:])


def _whatever_comes(decompressor: Any, data: bytes) -> bytes:
    """Return what can be decompressed before an error: a torn stream leaks its beginning all the same."""
    result = bytearray()
    try:
        # In small pieces: a call that meets the tear gives nothing of what it had decoded before.
        for start in range(0, len(data), _PIECE):
            result += decompressor.decompress(data[start : start + _PIECE], _LARGEST_INFLATED)
            if decompressor.eof or len(result) > _LARGEST_INFLATED:
                break
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError):
        pass
    return bytes(result)


_DECODERS: Final[tuple[tuple[str, Callable[[bytes], Iterator[bytes]]], ...]] = (
    ("hexadecimal", _hexadecimal),
    ("Base64", _base64),
    ("Base32", _base32),
    ("escaped", _escaped),
    ("as UTF-8 text", _latin1),
    ("decimal", _decimal),
    ("compressed", _inflated),
)
