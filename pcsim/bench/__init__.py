"""How fast is it: fixed families of graphs, this machine's own rates, and baselines timed in the same run."""
