"""HAL9 Migration: move a live, stateful service from one architecture to another over Kafka."""

__version__ = "0.1.0"
