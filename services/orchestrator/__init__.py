"""Walks the plan: journals each step on `control`, acts, waits, judges the gates, promotes."""
