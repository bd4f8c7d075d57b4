"""Autospec."""
