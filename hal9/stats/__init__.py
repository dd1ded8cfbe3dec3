"""Statistics of a migration, pure: latency sketches and event-time panes."""
