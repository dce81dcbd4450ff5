"""The coordinator of a federation: its keys and certificates, its state directory, its trail, and the processes of Flower."""
