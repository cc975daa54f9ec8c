"""The command line of talkemo: it parses and reports, and holds no maths."""
