"""For tests of what runs on HAL9: an in-memory log, the runtime that drives cores over it, a harness for handlers."""

from hal9.testing.harness import BrokenPromise, HandlerHarness
from hal9.testing.memory import MemoryGroup, MemoryLog, MemoryLogs
from hal9.testing.runtime import MemoryRuntime

__all__ = ["BrokenPromise", "HandlerHarness", "MemoryGroup", "MemoryLog", "MemoryLogs", "MemoryRuntime"]
