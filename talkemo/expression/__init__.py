"""Emotions over time, and the blinks, gaze and head motion of a speaker."""
