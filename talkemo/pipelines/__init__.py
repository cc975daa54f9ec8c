"""The public functions: animate, stream, live, transfer, reconstruct, bind and render."""
