"""The executor for many machines: a Ray cluster."""
