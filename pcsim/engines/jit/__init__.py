"""The compiled engine: kernels that Numba compiles once, keeps on disk, and runs without Python."""
