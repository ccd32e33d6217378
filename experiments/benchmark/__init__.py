"""How fast it is and how far it scales, measured side by side: `python -m experiments.benchmark`."""
