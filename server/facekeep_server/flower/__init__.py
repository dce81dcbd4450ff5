"""Rounds over Flower, the coordinator's side: the ServerApp, which drives the IO-free `facekeep_server.rounds.Round` over a Grid.

Nothing of Flower's strategies, workflows, secure aggregation or privacy is used: a strategy averages what it gets, and one bad
client ends or poisons it.
"""
