"""Who may do what: devices by their key, people by tokens, and the one-time codes that let a device in."""
