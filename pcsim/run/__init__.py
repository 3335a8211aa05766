"""One run: the task, the loop that ticks it, what is recorded and measured, and the folder that is left of it."""
