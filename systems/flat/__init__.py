"""The old architecture: one neuron at a time."""
