"""Many batches: parameters that follow what a rule learns, batch after batch."""
