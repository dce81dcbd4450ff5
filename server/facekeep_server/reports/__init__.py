"""Reports: documents made from the log and the running configuration, as HTML and JSON."""
