"""What the log says, as tables: one set of functions behind the console, its exports and the reports."""
