"""Kafka and Valkey as real processes of this machine, with nothing but Python installed."""
