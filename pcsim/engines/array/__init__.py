"""The vectorised engine: all vertices of a kind in one array operation, by NumPy on the host or CuPy on a device."""
