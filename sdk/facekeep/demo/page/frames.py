"""Frames with what the device found on them: box, landmarks and the decision, drawn over the picture."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from facekeep.biometric import Detection, QualityReport
from facekeep.demo.page.markup import Markup, join, tag
from facekeep.demo.record import Snapshot

# Units of a drawing are about pixels of the screen: a single face is fitted into this, a group into the larger one.
SINGLE_PX: Final = (280.0, 280.0)
GROUP_PX: Final = (460.0, 330.0)
_FONT_PX: Final = 12.0
_SMALL_PX: Final = 34.0
# Mean width of a character in a sans-serif face, in parts of its size.
_CHARACTER: Final = 0.56


@dataclass(frozen=True, slots=True)
class Label:
    """A line over a face.

    Attributes:
        text: what it says.
        tone: "good", "bad" or "plain".
    """

    text: str
    tone: str = "plain"


def draw_frame(snapshot: Snapshot, label: Label | None, alt: str, fit: tuple[float, float] = SINGLE_PX) -> Markup:
    """Return a picture with an overlay, as one SVG that scales with its box.

    Args:
        snapshot: the picture.
        label: a line at the face, where there is exactly one.
        alt: the picture in words.
        fit: (width, height) that the drawing is fitted into.
    """
    if snapshot.size_px is None:
        return tag("div", "could not be read", class_="unread", role="img", aria_label=alt)
    frame_width, frame_height = snapshot.size_px
    scale = min(fit[0] / frame_width, fit[1] / frame_height)
    width, height = frame_width * scale, frame_height * scale
    tone = label.tone if label else "plain"
    single = snapshot.detections[0] if len(snapshot.detections) == 1 else None
    overlay = [_face(detection, scale, tone) for detection in snapshot.detections]
    if label is not None:
        overlay.append(_label(label, single, scale, width, height))
    source = "data:image/jpeg;base64," + base64.b64encode(snapshot.jpeg).decode("ascii")
    return tag(
        "svg",
        tag("image", href=source, width=width, height=height, preserveAspectRatio="none"),
        *overlay,
        viewBox=f"0 0 {width:.1f} {height:.1f}",
        role="img",
        aria_label=alt,
        class_="frame",
    )


def quality_bar(quality: QualityReport) -> Markup:
    """Return the unified quality as a bar, with the weakest component in brackets."""
    weakest = min(quality.components, key=lambda component: component[1], default=None)
    refused = bool(quality.refused_for)
    words = f"quality {quality.score} of 100"
    if refused:
        detail: str | None = f"refused for {', '.join(quality.refused_for)}"
    else:
        detail = f"({weakest[0]})" if weakest is not None and weakest[1] < 100 else None
    bar = tag(
        "svg",
        tag("rect", width="100%", height=6, rx=3, class_="track"),
        tag("rect", width=f"{quality.score}%", height=6, rx=3, class_="bad" if refused else "level"),
        width="100%",
        height=6,
        role="img",
        aria_label=words,
        class_="bar",
    )
    return tag(
        "div", bar, tag("span", words, join(", " if refused else " ", detail) if detail else None, class_="small"), class_="quality"
    )


def _face(detection: Detection, scale: float, tone: str) -> Markup:
    left, top, width, height = (value * scale for value in detection.box_px)
    box = {"x": left, "y": top, "width": width, "height": height, "rx": 2}
    # Thin around small faces: a crowd has to stay visible.
    weight = " fine" if width < _SMALL_PX else ""
    parts = [tag("rect", class_=f"halo{weight}", **box), tag("rect", class_=f"box {tone}{weight}", **box)]
    radius = min(3.0, max(0.9, width * 0.028))
    if detection.landmarks_px is not None:
        parts += [
            tag("circle", cx=float(x) * scale, cy=float(y) * scale, r=radius, class_="landmark") for x, y in detection.landmarks_px
        ]
    return join(*parts)


def _label(label: Label, detection: Detection | None, scale: float, width: float, height: float) -> Markup:
    high, wide = _FONT_PX + 6, len(label.text) * _FONT_PX * _CHARACTER + 10
    left, top = 4.0, 4.0
    if detection is not None:
        box_left, box_top, _, box_height = (value * scale for value in detection.box_px)
        left, top = box_left - 1, box_top - high - 2
        if top < 0:
            # No room above: below the face, or at its lower edge.
            top = min(box_top + box_height + 2, height - high)
    left = max(0.0, min(left, width - wide))
    return tag(
        "g",
        tag("rect", x=left, y=top, width=wide, height=high, rx=3, class_=f"plate {label.tone}"),
        tag(
            "text", label.text, x=left + wide / 2, y=top + high - 5.5, font_size=_FONT_PX, text_anchor="middle", class_="plate-text"
        ),
        aria_hidden="true",
    )
