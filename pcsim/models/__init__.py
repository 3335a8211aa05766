"""Models made elsewhere, as graphs with their weights; and graphs for other tools."""
