"""How fast is it: a fixed zoo of graphs, this machine's own rates, and rivals timed in the same run."""
