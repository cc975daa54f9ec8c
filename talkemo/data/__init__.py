"""Corpora: their recordings, fitted and prepared for training and evaluation."""
