"""Bytes <-> calls: HTTP, bodies, fields and their bounds, protocols."""
