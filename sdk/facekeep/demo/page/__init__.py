"""The page that a demo draws."""

from facekeep.demo.page.document import render_page

__all__ = ["render_page"]
