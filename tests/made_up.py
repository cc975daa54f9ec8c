"""Small stand-ins for Whisper in the tests of training."""

import torch

from talkemo.train.teacher import WHISPER_WIDTHS, WhisperEncoder


class MadeUpTeacher(torch.nn.Module):
    """Features from the loudest band of two rows, with as many columns as Whisper's."""

    def __init__(self, name, layers=None):
        super().__init__()
        self.columns = torch.nn.Parameter(torch.linspace(-1, 1, WHISPER_WIDTHS[name]))

    def forward(self, rows):
        return rows.amax(2).unflatten(1, (-1, 2)).amax(2)[..., None] * self.columns


def made_up_whisper(name, layers=None):
    """Whisper's encoder with random weights, or its lowest layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WhisperEncoder(WHISPER_WIDTHS[name], layers or 4)
