"""What is read of many records at once: the page, the README's tables, the published files."""
