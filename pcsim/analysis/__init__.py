"""From traces and graphs to numbers."""
