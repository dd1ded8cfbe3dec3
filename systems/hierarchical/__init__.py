"""The new architecture: units in cognitive layers, executed in batches."""
