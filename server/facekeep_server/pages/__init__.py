"""Pages of HTML, made on the server: no script, nothing from elsewhere, every value escaped."""

from facekeep_server.pages.rendering import STYLE_PATH, render, style
from facekeep_server.pages.view import Field, Section, View

__all__ = ["STYLE_PATH", "Field", "Section", "View", "render", "style"]
