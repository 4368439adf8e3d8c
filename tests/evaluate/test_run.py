"""Records come from real bytes; the check of latents is a check."""

from __future__ import annotations

import pytest
import torch

from fastlic.codec.image_files import read_image
from fastlic.evaluate import evaluate, evaluate_peer, same_latents
from fastlic.evaluate.peers import PEERS, Peer, find_peer


@pytest.fixture(scope="module")
def x(photos):
    return read_image(photos / "chelsea.png").pixels[:, :60, :44].contiguous()


def test_extras_are_measured_only_when_asked_for(tiny_codec, x):
    plain = evaluate(tiny_codec, x, "cat", 3)
    assert (plain.ms_ssim, plain.ms_ssim_db, plain.estimated_bits, plain.same_latents) == (None, None, None, None)
    full = evaluate(tiny_codec, x, "cat", 3, with_estimate=True, with_check=True)
    assert full.estimated_bits == tiny_codec.estimate(x, 3)["bits"]
    assert full.same_latents is True
    assert plain.bpp == 8 * plain.size / (60 * 44)


def test_latents_that_differ_in_one_value_are_found(tiny_codec, x, monkeypatch):
    assert same_latents(tiny_codec, x, 3)
    decode = tiny_codec.decode_latents

    def damaged(data):
        latents = decode(data)
        latents["y"] = latents["y"] + (torch.arange(latents["y"].shape[-1]) == 0)
        return latents

    monkeypatch.setattr(tiny_codec, "decode_latents", damaged)
    assert not same_latents(tiny_codec, x, 3)


def test_the_check_restores_the_number_of_threads(tiny_codec, x):
    before = torch.get_num_threads()
    same_latents(tiny_codec, x, 3)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_peers_are_real_files_that_improve_with_quality(x, name):
    peer = find_peer(name)
    records = list(evaluate_peer(Peer(peer.name, (10, 50, 95), peer.options), x, "cat"))
    assert [r.size for r in records] == [len(peer.compress(x, q)) for q in (10, 50, 95)]
    assert records[0].size < records[1].size < records[2].size
    assert records[0].psnr < records[1].psnr < records[2].psnr
    assert records[0].codec == peer.name


def test_every_peer_sweeps_rising_qualities():
    for peer in PEERS.values():
        assert list(peer.qualities) == sorted(set(peer.qualities))
    with pytest.raises(ValueError, match="peers are jpeg, webp, avif; got 'gif'"):
        find_peer("gif")


@pytest.mark.slow
def test_jpeg_on_kodak_meets_the_published_rates(kodak):
    # CompressAI's jpeg.json, which leaves Huffman tables at their defaults. Ours are optimised: the harder anchor.
    published = Peer("JPEG", (5, 10))
    pictures = [read_image(path).pixels for path in sorted(kodak.glob("*.png"))]
    for quality, bpp in ((5, 0.2212), (10, 0.3266)):
        plain, ours = (
            sum(8 * len(peer.compress(x, quality)) / x[0].numel() for x in pictures) / len(pictures)
            for peer in (published, find_peer("jpeg"))
        )
        assert plain == pytest.approx(bpp, abs=1e-4)
        assert ours < plain
