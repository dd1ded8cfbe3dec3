"""A network that reads handwritten digits, each of its neurons a neuron of the platform."""
