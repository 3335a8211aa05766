"""What happens in a tick, as data."""
