"""Populations of neurons with a weight and a delay for every synapse, as the op ``projection``."""
