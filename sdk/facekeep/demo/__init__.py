"""The demo: the main job of a device on photographs or on people who do not exist, with what happened drawn on a page.

docs/demo.md says what it shows and how a folder of photographs is laid out.
"""

from facekeep.demo.album import Limits
from facekeep.demo.material import CASTS, Cast
from facekeep.demo.progress import shown_progress
from facekeep.demo.report import DemoReport
from facekeep.demo.run import Progress, run_demo

__all__ = ["CASTS", "Cast", "DemoReport", "Limits", "Progress", "run_demo", "shown_progress"]
