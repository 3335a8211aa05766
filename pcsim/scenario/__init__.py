"""What was asked for: scenarios, the data they name, and the reader that finds every mistake."""
