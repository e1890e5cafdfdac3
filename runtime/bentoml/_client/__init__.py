"""Clients: of peers inside a graph, and of any service from outside."""
