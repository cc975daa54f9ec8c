"""Capture: videos, images, landmarks and curves to blend-shape weights and head pose."""
