"""Logs, metrics and traces. Nothing is global but the log set-up, which only an entry point calls."""
