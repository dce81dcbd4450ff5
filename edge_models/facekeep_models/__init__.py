"""Model packs: what ships, what can be pulled, and the recipes that made what ships."""
