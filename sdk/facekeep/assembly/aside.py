"""One call beside another, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

_Result = TypeVar("_Result")


class Aside(Generic[_Result]):
    """One call in a thread of its own, for as long as a with block takes."""

    def __init__(self, call: Callable[[str], _Result], argument: str) -> None:
        self._found: list[_Result] = []
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(call, argument))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.join()

    def result(self) -> _Result:
        """Return what the call returned, or raise what it raised."""
        if self._failed:
            raise self._failed[0]
        return self._found[0]

    def _run(self, call: Callable[[str], _Result], argument: str) -> None:
        try:
            self._found.append(call(argument))
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._failed.append(error)
