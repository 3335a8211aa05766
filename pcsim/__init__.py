"""A message-passing simulator for predictive coding on arbitrary computation graphs."""
