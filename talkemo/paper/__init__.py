"""The tables and figures of the paper (3D-TalkEmo), made anew with this project's models, and its PointNet generator."""
