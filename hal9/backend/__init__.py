"""The runtime of a system: a user writes the handler, this executes it once per position and keeps its state."""
