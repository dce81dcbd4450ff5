"""The fleet's side of Facekeep: it never sees a face, an embedding or one device's update."""
