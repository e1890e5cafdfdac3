"""Serving one service: its ASGI application, and what a request passes through."""
