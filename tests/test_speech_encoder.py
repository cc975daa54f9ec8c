"""The speech encoder's network: the reach of its attention, and how its changes are stored."""

import numpy as np
import pytest
import torch

from talkemo.audio.mel import mel_filters
from talkemo.errors import InputError
from talkemo.networks.speech_encoder import (
    Attention,
    EncoderNetwork,
    IncrementalEncoder,
    SpeechEncoder,
    build_encoder,
    encoder_changes,
    encoder_tensors,
)


def small():
    torch.manual_seed(0)
    network = EncoderNetwork(width=128, past=20, future=(5, 3)).eval()
    for block in network.blocks:
        torch.nn.init.normal_(block.attention.near)
    return network


def test_attention_in_chunks_equals_attention_to_nearby_features():
    torch.manual_seed(1)
    attention = Attention(128, 20, 5)
    torch.nn.init.normal_(attention.near)
    x = torch.randn(2, 77, 128)
    query, key, value = (
        attention.queries_keys_values(x).unflatten(2, (3, 2, 64)).permute(2, 0, 3, 1, 4)
    )
    distance = torch.arange(77)[None] - torch.arange(77)[:, None]
    logits = query @ key.transpose(2, 3) / 8 + attention.near[:, (distance + 20).clamp(0, 25)]
    logits = torch.where((distance >= -20) & (distance <= 5), logits, -torch.inf)
    wanted = attention.attended((logits.softmax(3) @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(
        attention(attention.queries_keys_values(x)), wanted, atol=1e-5, rtol=1e-5
    )


def test_a_feature_depends_on_inputs_within_reach_only():
    network = small()
    before, after = 2 * 20 + 1, 5 + 3 + 1
    mel = torch.randn(1, 400, 80)
    with torch.inference_mode():
        wanted = network(mel)[0, 100]
        mel[:, : 2 * (100 - before) - 1] = 9
        mel[:, 2 * (100 + after) + 2 :] = 9
        torch.testing.assert_close(network(mel)[0, 100], wanted)
        mel[:, 2 * (100 - before) + 4] = 9
        assert not torch.allclose(network(mel)[0, 100], wanted)


@pytest.mark.parametrize("size", [2, 6, 70])
def test_rows_in_pieces_give_the_same_features(size):
    network, mel = small(), torch.randn(2, 400, 80)
    encoding = IncrementalEncoder(network)
    with torch.inference_mode():
        wanted = network(mel)
        pieces = [encoding(rows) for rows in mel.split(size, 1)]
        features = torch.cat([piece for piece in pieces if piece.shape[1]], 1)
        assert features.shape[1] == 200 - 5 - 3 - 1  # the last ones wait for more rows
        torch.testing.assert_close(features, wanted[:, :191], atol=1e-5, rtol=1e-5)
        mel[:, 302:] = 9  # feature 141 depends on rows before 302
        assert not torch.allclose(network(mel)[:, 142], wanted[:, 142])
        torch.testing.assert_close(network(mel)[:, 141], wanted[:, 141])


def test_changes_are_stored_as_int8():
    network, trained = small(), small()
    names = [
        name for name, _ in network.named_parameters() if name.startswith(("blocks.", "norm."))
    ]
    with torch.no_grad():
        for name, tensor in trained.named_parameters():
            if name in names:
                tensor += 0.01 * torch.randn_like(tensor)
    changes = encoder_changes(trained, network, names)
    assert changes["blocks.0.wide.weight"].dtype == np.int8
    before = SpeechEncoder(network, mel_filters(), 128, {})
    after = before.changed(changes)
    for name, tensor in after.network.state_dict().items():
        error = (tensor - trained.state_dict()[name]).abs().max()
        assert error < (5e-4 if name in names else 1e-9), name
    assert after.fingerprint != before.fingerprint
    again = encoder_changes(
        after.network, network, names
    )  # training resumed from the stored changes
    for name, array in changes.items():
        np.testing.assert_array_equal(again[name], array)
    assert (before.network.norm.weight == network.norm.weight).all()  # the original is not changed
    # Unchanged tensors are stored as zeros.
    nothing = before.changed(encoder_changes(network, network, names))
    for name, tensor in nothing.network.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[name])


def test_a_network_is_built_from_its_tensors():
    network = small()
    tensors, settings = encoder_tensors(network, mel_filters())
    assert settings == {"width": 128, "past": 20, "future": [5, 3]}
    again = build_encoder(tensors, settings)
    mel = torch.randn(1, 60, 80)
    with torch.inference_mode():
        torch.testing.assert_close(again.network(mel), network(mel), atol=2e-2, rtol=2e-2)


def test_a_narrowed_encoder_needs_less_audio_ahead_and_streams_alike(models):
    encoder = models.encoder
    future = [after // 2 for after in encoder.network.future]
    narrow = encoder.narrowed(future)
    assert narrow.fingerprint == encoder.fingerprint and encoder.narrowed(None) is encoder
    saved = sum(encoder.network.future) - sum(future)
    assert narrow.lookahead_features == encoder.lookahead_features - saved
    rows = torch.randn(1, 80, encoder.filters.shape[0])
    with torch.inference_mode():
        whole = narrow.network(rows)
        later = rows.clone()
        later[:, 2 * (20 + narrow.lookahead_features + 1) :] += 1
        changed = narrow.network(later)
        parts = IncrementalEncoder(narrow.network)
        streamed = torch.cat([part for part in map(parts, rows.split(8, 1)) if part.shape[1]], 1)
    torch.testing.assert_close(changed[:, :21], whole[:, :21])
    assert not torch.allclose(changed[:, 24:], whole[:, 24:], atol=1e-4)
    count = streamed.shape[1]
    torch.testing.assert_close(streamed, whole[:, :count], atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="cannot be narrowed"):
        encoder.narrowed([after + 1 for after in encoder.network.future])
