import pytest
import torch

from m2i_ros.segmentation.network import DeepResidualUNet


def test_the_paper_s_width_has_the_paper_s_number_of_weights():
    # Zhang et al. 2018: 15 main convolutions of 3x3 (the last 1x1), 64-128-256, bridge 512; here of one grey channel.
    channels = [
        (1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512),
        (512 + 256, 256), (256, 256), (256 + 128, 128), (128, 128), (128 + 64, 64), (64, 64),
    ]  # fmt: skip
    expected = sum(9 * a * b for a, b in channels) + 64
    shortcuts = 'shortcut'
    network = DeepResidualUNet(width=64, stem=1)
    convolutions = [
        module.weight.numel()
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d) and shortcuts not in name
    ]
    assert len(convolutions) == 15
    assert sum(convolutions) == expected
    assert 7.7e6 < expected < 7.9e6


@pytest.mark.parametrize('stem', [1, 2, 4])
@pytest.mark.parametrize('norm', ['batch', 'group'])
def test_logits_have_the_size_of_the_picture(stem, norm):
    network = DeepResidualUNet(width=4, stem=stem, norm=norm).eval()
    side = network.multiple
    assert network(torch.zeros(2, 1, 3 * side, 2 * side)).shape == (2, 1, 3 * side, 2 * side)


def test_every_pixel_of_the_picture_reaches_the_network_through_the_stem():
    network = DeepResidualUNet(width=4, stem=4, norm='group').eval()
    picture = torch.rand(1, 1, 64, 64, requires_grad=True)
    network(picture).pow(2).sum().backward()
    assert (picture.grad != 0).all()


def test_an_unknown_norm_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match='batch, group'):
        DeepResidualUNet(norm='layer')


def test_a_network_of_two_pictures_begins_as_one_of_the_first_alone():
    one, two = (DeepResidualUNet(width=4, stem=2, norm='group', pictures=n).eval() for n in (1, 2))
    two.load_widened(one.state_dict())
    seen = torch.rand(2, 2, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(two(seen), one(seen[:, :1]))
    assert two.config == {**one.config, 'pictures': 2}
