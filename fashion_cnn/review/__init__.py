"""What a reviewer runs: replay, bundles and their check, a recorded network."""
