"""Recipes: the commands that made the weights that ship."""
