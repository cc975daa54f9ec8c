"""The networks: speech encoder, talking model, emotion transfer, and the judges that measure it."""
