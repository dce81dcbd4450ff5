"""The transparency log: entries and tree head in one transaction, the checkpoint only after the commit."""
