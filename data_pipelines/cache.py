"""Decoded media kept under a limit of bytes; what was used longest ago goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ByteCache(Generic[Value]):
    """At most `limit` bytes of values. Values are shared, so nobody may write to them. Safe to use from threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        """Of the values held, as `put` was told."""
        self.hits = self.misses = 0
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            if key not in self._values:
                self.misses += 1
                return None
            self.hits += 1
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of `size` bytes; one that is larger than the limit is not kept."""
        with self._lock:
            if key in self._values:
                self.bytes -= self._values.pop(key)[1]
            if size > self.limit:
                return
            self._values[key] = value, size
            self.bytes += size
            while self.bytes > self.limit:
                self.bytes -= self._values.popitem(last=False)[1][1]
