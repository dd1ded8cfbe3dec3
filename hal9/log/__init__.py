"""Claimed logs: who may write, what counts, and the one Kafka runtime that drives partition cores."""
