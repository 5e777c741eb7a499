"""What the world is: the model, its telemetry, and the Gymnasium environments."""
