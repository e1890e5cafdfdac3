"""Calls to peers: the other services of the graph, and those outside it."""
