"""What a record is, whether it counts, and what records say. Pure."""
