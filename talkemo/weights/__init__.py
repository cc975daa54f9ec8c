"""Files of trained weights, their registries and sets, the Hub, and `load_models`."""
