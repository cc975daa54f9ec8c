"""What the tests of training have in the place of a large network."""

import torch

from talkemo.train.teacher import WHISPER_WIDTHS, WhisperEncoder


class MadeUpTeacher(torch.nn.Module):
    """Stands in for Whisper's encoder: a feature has the loudest band of its two rows, in as many columns as Whisper's."""

    def __init__(self, name, layers=None):
        super().__init__()
        self.columns = torch.nn.Parameter(torch.linspace(-1, 1, WHISPER_WIDTHS[name]))

    def forward(self, rows):
        return rows.amax(2).unflatten(1, (-1, 2)).amax(2)[..., None] * self.columns


def made_up_whisper(name, layers=None):
    """Whisper's encoder of that name with random weights, or its lowest layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WhisperEncoder(WHISPER_WIDTHS[name], layers or 4)
