"""What knows the future: the reference, which searches in copies of the model, and the bound that no policy can pass.
They are the measure, not contenders."""
