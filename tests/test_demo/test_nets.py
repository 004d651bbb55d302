"""The nets do what their notes say: padding in one token, a linear encoder, text-to-video as a part of image-to-video."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from demo.model import codec, denoiser, export, nets, optim
from demo.model.sample import WEIGHTS
from demo.world.clips import draw_clips, render_all


@pytest.fixture(scope="module")
def video():
    return codec.to_video(render_all(draw_clips(48, seed=1)))


@pytest.fixture(scope="module")
def vae(video):
    torch.manual_seed(0)
    vae = nets.build_vae()
    nets.principal_encoder(vae, video, nets.block_weights(video))
    return vae.eval()


@torch.no_grad()
def encode(vae, video):
    return vae.encode(video).latent_dist.mode()


def test_one_raised_pad_equals_all_the_zero_pads_of_the_pipelines():
    torch.manual_seed(0)
    net = nets.build_transformer().eval()
    words, length = torch.randn(2, 7, nets.TEXT_DIM), torch.tensor([7, 4])
    words[1, 4:] = 0
    x, time = torch.randn(2, nets.I2V_CHANNELS, 5, 8, 8), torch.tensor([900.0, 300.0])
    with torch.no_grad():
        padded = net(x, time, torch.cat([words, torch.zeros(2, 505, nets.TEXT_DIM)], 1), return_dict=False)[0]
        context = nets.PaddedContext().attach(net)
        short = torch.cat([words, torch.zeros(2, 1, nets.TEXT_DIM)], 1)
        context.bias = context.bias_for(length, (512 - length).float(), 8)
        assert torch.allclose(net(x, time, short, return_dict=False)[0], padded, atol=2e-5)
        context.bias = None
        assert not torch.allclose(net(x, time, short, return_dict=False)[0], padded, atol=1e-3)


def test_the_principal_encoder_is_linear_through_the_stock_layers(vae, video):
    a, b = video[:2], video[2:4]
    mixed = encode(vae, 0.3 * a + 0.7 * b)
    assert torch.allclose(mixed, 0.3 * encode(vae, a) + 0.7 * encode(vae, b), rtol=1e-3, atol=1e-2)


def test_the_latents_hold_what_the_eye_needs(vae, video):
    z = encode(vae, video)
    assert z.shape == (48, nets.Z_DIM, 5, 8, 8)
    blocks = nets._blocks(video)[:, 1::2].flatten(0, 3)
    codes = torch.cat([z[:, :, 1:].movedim(1, -1).flatten(0, 3), torch.ones(len(blocks), 1)], 1)
    error = blocks - codes @ torch.linalg.lstsq(codes, blocks).solution
    assert -10 * torch.log10(error.square().mean() / 4) > 28


def test_the_first_latent_hangs_on_the_first_frame_alone(vae, video):
    other = video[:2].clone()
    other[:, :, 1:] = 0
    assert torch.equal(encode(vae, video[:2])[:, :, 0], encode(vae, other)[:, :, 0])


def test_the_condition_is_what_the_pipeline_would_encode(vae, video):
    image = video[:2].clone()
    image[:, :, 1:] = 0
    latents, grey = encode(vae, video[:2]), codec.grey_latents(vae, 9)
    condition = codec.first_frame_condition(nets.normalised(latents, vae), grey)
    assert torch.allclose(condition[:, nets.MASK_CHANNELS :], encode(vae, image), atol=1e-3)
    assert condition[:, : nets.MASK_CHANNELS, 0].eq(1).all()
    assert condition[:, : nets.MASK_CHANNELS, 1:].eq(0).all()


def test_text_to_video_is_image_to_video_without_an_image():
    torch.manual_seed(0)
    i2v, t2v = nets.build_transformer(), nets.build_transformer(nets.T2V_CHANNELS)
    t2v.load_state_dict(export.first_channels(i2v))
    x, words = torch.randn(1, nets.Z_DIM, 5, 8, 8), torch.randn(1, 6, nets.TEXT_DIM)
    nothing = torch.zeros(1, nets.I2V_CHANNELS - nets.Z_DIM, 5, 8, 8)
    time = torch.tensor([500.0])
    with torch.no_grad():
        whole = i2v(torch.cat([x, nothing], 1), time, words, return_dict=False)[0]
        assert torch.allclose(t2v(x, time, words, return_dict=False)[0], whole, atol=1e-5)


def test_an_optimiser_restored_goes_on_with_the_same_bits():
    def train(net, optimiser, steps):
        for step in steps:
            torch.manual_seed(step)
            net(torch.randn(4, 6)).square().mean().backward()
            optimiser.step(optim.decay(step, 8, warmup=2))

    def fresh():
        torch.manual_seed(9)
        net = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Linear(12, 3))
        return net, optim.MatrixAdam(net.named_parameters(), matrix_lr=0.02, adam_lr=1e-3, plain=("1.",))

    whole, optimiser = fresh()
    train(whole, optimiser, range(8))
    net, optimiser = fresh()
    train(net, optimiser, range(5))
    again, later = fresh()
    again.load_state_dict(net.state_dict())
    later.restore(optimiser.state())
    train(again, later, range(5, 8))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_shipped_weights_are_enough_to_train_on(tmp_path):
    export.restore(tmp_path, WEIGHTS, step=7)
    tokenizer, text_encoder, transformer = export.trained(tmp_path)
    shipped = WanTransformer3DModel.from_pretrained(WEIGHTS / "i2v" / "transformer", dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, shipped[name]) for name, tensor in transformer.state_dict().items())
    assert torch.equal(
        text_encoder.shared.weight, load_file(WEIGHTS / "i2v" / "text_encoder" / "model.safetensors")["shared.weight"]
    )
    assert len(tokenizer) == len(text_encoder.shared.weight)
    assert denoiser._step_of(tmp_path / "denoiser-state.safetensors") == 7
    assert denoiser._step_of(tmp_path / "none") == 0
    # Encoder and decoder are those that made the latents.
    assert (
        codec.load_vae(tmp_path).config.latents_mean == codec.load_vae(tmp_path, "vae.safetensors").config.latents_mean
    )


def test_orthogonal_brings_all_singular_values_near_one():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(optim.orthogonal(torch.randn(24, 60)))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_training_mixes_a_clips_own_latents_with_fresh_noise_only():
    sigmas = denoiser.sample_sigmas(4000, torch.Generator().manual_seed(0))
    assert sigmas.min() > 0
    assert sigmas.max() <= 1
    assert (sigmas > 0.9).float().mean() > 0.15
    assert (sigmas < 0.3).float().mean() > 0.05
