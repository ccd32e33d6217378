"""What many records say together: the HTML page, the tables of README and docs, the published files."""
