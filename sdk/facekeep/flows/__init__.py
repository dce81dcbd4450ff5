"""What a device does, one flow a file. Each opens with its numbered steps; docs/flows uses the same numbers."""
