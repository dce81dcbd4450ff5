from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from facekeep.capture import OpenCVCamera, StillCamera, as_frame, expand_sources, frame_from_array, read_picture
from facekeep.capture import pictures as pictures_module
from facekeep.capture.headers import picture_size
from facekeep.clock import ManualClock
from facekeep.consent import ConsentGrant
from facekeep.errors import AcquisitionError, ConsentError
from tests.sdk.fake_sessions import NOW, blank_frame

CLOCK = ManualClock(NOW)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(width: int = 40, height: int = 30) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack((x * 6, y * 8, 255 - x * 6), axis=2).astype(np.uint8)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(AcquisitionError) as caught:
        call()
    return caught.value.code


@pytest.fixture(params=["pillow", "opencv"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "opencv":
        real = pictures_module._import
        monkeypatch.setattr(pictures_module, "_import", lambda name: None if name.startswith("PIL") else real(name))
    return str(request.param)


def test_png_is_read_exactly(decoder: str) -> None:
    np.testing.assert_array_equal(read_picture(encoded(Image.fromarray(gradient()))), gradient())


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "WEBP"])
def test_other_formats_are_read(decoder: str, kind: str) -> None:
    options = {} if kind == "BMP" else {"quality": 95}
    found = read_picture(encoded(Image.fromarray(gradient()), kind, **options))
    assert np.abs(found.astype(int) - gradient()).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_jpeg(decoder: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(gradient()), "JPEG", quality=95, exif=exif, subsampling=0)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    found = read_picture(content)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 8


def test_grey_has_three_equal_channels(decoder: str) -> None:
    grey = gradient()[:, :, 0]
    found = read_picture(encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(found, np.repeat(grey[:, :, None], 3, axis=2))


def test_sixteen_bits_keep_the_upper_eight(decoder: str) -> None:
    deep = (gradient()[:, :, 0].astype(np.uint16) << 8) + 77
    found = read_picture(encoded(Image.fromarray(deep)))
    np.testing.assert_array_equal(found[:, :, 1], deep >> 8)


def test_transparency_shows_white(decoder: str) -> None:
    layered = np.dstack((gradient(), np.full((30, 40), 255, np.uint8)))
    layered[:10, :, 3] = 0
    layered[10:20, :, 3] = 128
    found = read_picture(encoded(Image.fromarray(layered))).astype(int)
    assert (found[:10] == 255).all()
    assert np.abs(found[10:20] - (gradient()[10:20] * 0.502 + 255 * 0.498)).max() <= 1.5
    np.testing.assert_array_equal(found[20:], gradient()[20:])


def test_palette_cmyk_bilevel_and_grey_alpha_are_converted() -> None:
    picture = Image.fromarray(gradient())
    assert np.abs(read_picture(encoded(picture.convert("P", palette=Image.Palette.ADAPTIVE))).astype(int) - gradient()).mean() < 8
    assert np.abs(read_picture(encoded(picture.convert("CMYK"), "JPEG", quality=95)).astype(int) - gradient()).mean() < 8
    assert set(np.unique(read_picture(encoded(picture.convert("1"))))) <= {0, 255}
    assert read_picture(encoded(picture.convert("LA"))).shape == (30, 40, 3)


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"hello, this is a text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_what_is_no_picture_is_unreadable(decoder: str, content: bytes) -> None:
    assert code_of(lambda: read_picture(content)) == "acquisition.unreadable"


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_truncated_pictures_are_unreadable(kind: str) -> None:
    content = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)), kind)
    for cut in (10, 60, len(content) // 2, len(content) - 600):
        assert code_of(lambda cut=cut: read_picture(content[:cut])) == "acquisition.unreadable"


@settings(deadline=None, max_examples=150)
@given(offset=st.integers(0, 10**6), value=st.integers(0, 255), kind=st.sampled_from(["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"]))
def test_any_damaged_byte_gives_a_picture_or_a_typed_error(offset: int, value: int, kind: str) -> None:
    content = bytearray(encoded(Image.fromarray(gradient()), kind))
    content[offset % len(content)] = value
    try:
        found = read_picture(bytes(content))
    except AcquisitionError:
        return
    assert found.dtype == np.uint8
    assert found.shape[2] == 3


@settings(deadline=None, max_examples=100)
@given(
    content=st.binary(max_size=300),
    head=st.sampled_from([b"", b"\xff\xd8", b"BM", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"RIFF1234WEBP"]),
)
def test_headers_of_anything_give_a_size_or_none(content: bytes, head: bytes) -> None:
    size = picture_size(head + content)
    assert size is None or min(size) > 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_headers_say_the_size(kind: str) -> None:
    assert picture_size(encoded(Image.fromarray(gradient()), kind)) == (40, 30)
    if kind == "WEBP":
        assert picture_size(encoded(Image.fromarray(gradient()), kind, lossless=True)) == (40, 30)
        layered = np.dstack((gradient(), np.full((30, 40), 9, np.uint8)))
        assert picture_size(encoded(Image.fromarray(layered), kind)) == (40, 30)


def bomb(width: int, height: int) -> bytes:
    """A PNG header that claims a size, with no pixels behind it: whoever decodes it fails otherwise."""
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + chunk + end


@pytest.mark.parametrize("size", [(10_001, 10_000), (50_000, 50_000), (2**31 - 1, 2**31 - 1)])
def test_a_hundred_megapixels_are_refused_before_decoding(decoder: str, size: tuple[int, int]) -> None:
    assert code_of(lambda: read_picture(bomb(*size))) in {"acquisition.too_large", "acquisition.unreadable"}
    if size[0] < 10**6:
        assert code_of(lambda: read_picture(bomb(*size))) == "acquisition.too_large"


def test_the_limit_is_exact(decoder: str) -> None:
    content = encoded(Image.fromarray(gradient()))
    assert read_picture(content, max_pixels=1200).shape == (30, 40, 3)
    assert code_of(lambda: read_picture(content, max_pixels=1199)) == "acquisition.too_large"


def test_small_pictures_are_refused(decoder: str) -> None:
    assert code_of(lambda: read_picture(encoded(Image.fromarray(gradient(8, 8))))) == "acquisition.too_small"


def test_without_a_decoder_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures_module, "_import", lambda name: None)
    assert code_of(lambda: read_picture(b"x")) == "acquisition.no_decoder"


def test_paths_that_are_no_file_are_unreadable(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path in (tmp_path, tmp_path / "missing.png", pipe, "null\0byte", "x" * 5000):
        assert code_of(lambda path=path: read_picture(path)) == "acquisition.unreadable"


def test_errors_name_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "alice.png"
    secret.write_bytes(b"not a picture")
    with pytest.raises(AcquisitionError) as caught:
        read_picture(secret)
    assert "alice" not in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 40, 3), np.float32),
        np.full((40, 40, 3), np.nan),
        np.zeros((40, 40), np.uint8),
        np.zeros((40, 40, 4), np.uint8),
        np.zeros((0, 40, 3), np.uint8),
        np.zeros((40, 40, 3), np.int64),
        np.zeros((2, 40, 40, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_frame_are_refused(array: np.ndarray) -> None:
    assert code_of(lambda: as_frame(array, CLOCK)) == "acquisition.invalid_frame"


def test_arrays_are_bounded_and_copied() -> None:
    assert code_of(lambda: frame_from_array(np.zeros((8, 8, 3), np.uint8), NOW)) == "acquisition.too_small"
    assert code_of(lambda: frame_from_array(np.zeros((40, 40, 3), np.uint8), NOW, max_pixels=1000)) == "acquisition.too_large"
    array = gradient()
    frame = as_frame(array, CLOCK)
    array[:] = 0
    np.testing.assert_array_equal(frame.pixels, gradient())
    assert frame.captured_at == CLOCK.now()


def test_as_frame_takes_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(Image.fromarray(gradient())))
    frame = blank_frame(20, 20)
    assert as_frame(frame, CLOCK) is frame
    for source in (path, str(path), path.read_bytes()):
        np.testing.assert_array_equal(as_frame(source, CLOCK).pixels, gradient())
    assert code_of(lambda: as_frame(3, CLOCK)) == "acquisition.invalid_frame"  # type: ignore[arg-type]


def test_sources_expand(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "c.png").mkdir()
    assert expand_sources(tmp_path) == [tmp_path / "a.png", tmp_path / "b.JPG"]
    assert expand_sources(str(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]
    assert expand_sources("camera:0") == ["camera:0"]
    empty = tmp_path / "empty"
    empty.mkdir()
    for argument in ("camera:", "camera:-1", empty, tmp_path / "missing", "null\0byte"):
        assert code_of(lambda argument=argument: expand_sources(argument)) == "acquisition.unreadable"


@pytest.fixture
def grant() -> ConsentGrant:
    from facekeep.consent import Purpose

    return ConsentGrant("subject", object(), frozenset({Purpose.VERIFICATION}))  # type: ignore[arg-type]


def test_the_still_camera_shows_its_frames_in_turn(grant: ConsentGrant) -> None:
    frames = [blank_frame(20, 20, grey) for grey in (1, 2)]
    camera = StillCamera(frames)
    assert [camera.capture(grant) for _ in range(3)] == [frames[0], frames[1], frames[0]]
    assert code_of(lambda: StillCamera([]).capture(grant)) == "acquisition.camera"


class FakeDevice:
    def __init__(self, frames: list[np.ndarray | None]) -> None:
        self.frames, self.released = list(frames), False

    def isOpened(self) -> bool:  # noqa: N802
        return bool(self.frames)

    def read(self) -> tuple[bool, np.ndarray | None]:
        frame = self.frames.pop(0) if self.frames else None
        if isinstance(frame, str):
            raise RuntimeError(frame)
        return frame is not None, frame

    def release(self) -> None:
        self.released = True


class FakeCV2:
    def __init__(self, device: FakeDevice) -> None:
        self.device, self.opened = device, 0

    def VideoCapture(self, index: int) -> FakeDevice:  # noqa: N802
        self.opened += 1
        return self.device


def test_a_camera_stays_closed_without_a_grant(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCV2(FakeDevice([gradient()]))
    monkeypatch.setitem(sys.modules, "cv2", fake)
    for camera in (OpenCVCamera(0), StillCamera([blank_frame(20, 20)])):
        with pytest.raises(ConsentError):
            camera.capture(None)  # type: ignore[arg-type]
    assert fake.opened == 0


def test_a_camera_is_released_whatever_happens(monkeypatch: pytest.MonkeyPatch, grant: ConsentGrant) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    for frames, works in (([gradient()] * 3, True), ([], False), ([gradient(), None], False), (["broken"], False)):
        device = FakeDevice(frames)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "cv2", FakeCV2(device))
        camera = OpenCVCamera(0, clock=clock, warm_up_frames=2)
        if works:
            frame = camera.capture(grant)
            np.testing.assert_array_equal(frame.pixels, gradient()[:, :, ::-1])
            assert frame.captured_at == clock.now()
        else:
            assert code_of(lambda camera=camera: camera.capture(grant)) == "acquisition.camera"
        assert device.released
