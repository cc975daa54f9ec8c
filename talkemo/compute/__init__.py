"""Devices that networks run on, and worker processes, here or on a Dask cluster."""
