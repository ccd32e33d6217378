"""From a plan to recorded runs: workers, executors, and the loop that listens to them."""
