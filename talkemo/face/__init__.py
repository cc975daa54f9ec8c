"""The canonical face, its motion and its geometry map."""
