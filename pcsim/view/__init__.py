"""What a run looks like: figures for the screen and for print."""
