"""The command line, a module a user."""
