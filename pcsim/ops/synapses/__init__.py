"""Populations of neurons with a weight and a delay for every synapse: connection rules, files, the op ``projection``."""
