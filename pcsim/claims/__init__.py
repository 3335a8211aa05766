"""What papers say, beside what is measured here: a claim is a scenario with the key ``claim``."""
