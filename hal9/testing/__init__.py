"""For tests of what runs on HAL9: an in-memory log, the runtime that drives cores over it, a harness for handlers."""
