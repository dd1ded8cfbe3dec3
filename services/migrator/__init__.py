"""Keeps both stores current, in both directions, and proves it."""
