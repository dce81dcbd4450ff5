"""What runs on a server: the transparency log and who may reach it. It never imports what stays on a device."""
