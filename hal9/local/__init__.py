"""The whole topology on this machine: the stack and every service as supervised processes."""
