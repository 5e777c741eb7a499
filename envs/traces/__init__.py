"""Readers of data-centre traces."""
