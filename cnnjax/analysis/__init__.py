"""Seeing what a network is and what it learned."""
