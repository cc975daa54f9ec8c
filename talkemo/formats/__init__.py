"""Animations and meshes as files: the registry of formats, and one module per format."""
