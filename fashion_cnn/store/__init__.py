"""MLflow and the trajectories' folders: the only room that imports MLflow, and the one that writes."""
