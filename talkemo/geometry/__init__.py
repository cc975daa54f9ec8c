"""Geometry of meshes and points, without knowledge of faces."""
