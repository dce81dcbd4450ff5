"""Writing HTML so that text can never become markup: whatever is not `Markup` is escaped."""

from __future__ import annotations

import html
from typing import Final, TypeAlias

_VOID: Final = frozenset({"meta", "br", "hr", "img"})


class Markup(str):
    """Text that is HTML already. Made by `tag` and `join` only."""

    __slots__ = ()


Child: TypeAlias = "str | int | None"
Attribute: TypeAlias = "str | int | float | bool | None"


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        children: `Markup` as it is, other text escaped, None left out.
        attributes: "class_" is class, "aria_label" is aria-label; True stands alone, False and None are left out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Return children one after the other."""
    return Markup(
        "".join(child if isinstance(child, Markup) else html.escape(str(child)) for child in children if child is not None)
    )


def unsafe_raw(text: str) -> Markup:
    """Return text that is taken for HTML as it stands: for our own style sheet, never for anything that came from outside."""
    return Markup(text)


def paragraph(*children: Child, class_: str | None = None) -> Markup:
    """Return a paragraph."""
    return tag("p", *children, class_=class_)


def code(text: str) -> Markup:
    """Return text in the typeface of code."""
    return tag("code", text)


def table(caption: Child, head: tuple[Child, ...], rows: list[tuple[Child, ...]], *, class_: str | None = None) -> Markup:
    """Return a table with a caption; the first cell of each row is its header. Wide ones scroll on their own."""
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(cell if _is_cell(cell) else tag("td", cell) for cell in row[1:]))
        for row in rows
    ]
    inner = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head))),
        tag("tbody", *body),
        class_=class_,
    )
    # Focusable, so that it can be scrolled with the keyboard.
    return tag(
        "div",
        inner,
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=str(caption) if not isinstance(caption, Markup) else None,
    )


def _is_cell(child: Child) -> bool:
    return isinstance(child, Markup) and child.startswith("<td")


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'
