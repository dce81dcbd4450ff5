"""Rate limits: a token bucket for each caller, in memory, a bounded number of them."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from facekeep_server.errors import ServerError

_CALLERS = 10_000


class RateLimit:
    """Lets each caller make so many requests a second, and saves up a few.

    Args:
        per_second: steady rate.
        burst_seconds: how many seconds' worth may be saved up.
        seconds: a clock that is never set back.
    """

    def __init__(self, per_second: float, burst_seconds: float, seconds: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._most = max(1.0, per_second * burst_seconds)
        self._seconds = seconds
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str) -> None:
        """Count one request of `caller`.

        Raises:
            ServerError: "request.too_many", with the seconds after which to try again.
        """
        now = self._seconds()
        with self._lock:
            held, since = self._buckets.pop(caller, (self._most, now))
            held = min(self._most, held + (now - since) * self._rate)
            allowed = held >= 1
            self._buckets[caller] = (held - 1 if allowed else held, now)
            if len(self._buckets) > _CALLERS:
                self._buckets.popitem(last=False)
        if not allowed:
            wait = math.ceil((1 - held) / self._rate)
            raise ServerError("request.too_many", "Too many requests. Wait before the next.", retry_after=max(1, wait))
