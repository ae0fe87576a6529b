import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m2i_ros.training.losses import (
    distillation_loss,
    segmentation_loss,
    soft_cldice_loss,
    soft_dice_loss,
    tolerant_dice_loss,
)
from m2i_ros.training.skeleton import pooled_skeleton, soft_skeleton


def line(width, gap=0):
    target = torch.zeros(1, 1, 64, 64)
    target[..., 30 : 30 + width, 4:60] = 1
    if gap:
        target[..., 32 - gap // 2 : 32 + (gap + 1) // 2] = 0
    return target


def certain(target):
    return 40 * (target - 0.5)


@pytest.mark.parametrize('loss', [soft_dice_loss, soft_cldice_loss, tolerant_dice_loss])
def test_the_truth_costs_nothing_and_its_opposite_the_most(loss):
    target = line(5)
    assert loss(certain(target), target) < 1e-4
    assert loss(certain(1 - target), target) > 0.85


def test_soft_dice_is_dice_where_the_network_is_certain():
    found, target = line(5), line(10)
    # 2 * 5 / (5 + 10), but for the smoothing.
    assert soft_dice_loss(certain(found), target, smooth=0).item() == pytest.approx(1 - 10 / 15, abs=1e-5)


def test_false_vessels_cost_where_there_are_none():
    nothing = torch.zeros(1, 1, 64, 64)
    assert soft_dice_loss(certain(nothing), nothing) < 1e-3
    assert soft_dice_loss(certain(line(3)), nothing) > 0.9


def test_a_gap_costs_cldice_more_than_a_thin_vessel():
    target = line(9)
    thinner = torch.zeros_like(target)
    thinner[..., 32:37, 4:60] = 1
    broken = line(9, gap=20)
    assert soft_cldice_loss(certain(thinner), target) < 0.1
    assert soft_cldice_loss(certain(broken), target) > 0.15


def test_the_soft_skeleton_lies_on_the_middle():
    skeleton = soft_skeleton(line(9), 8)[0, 0]
    assert skeleton[34, 20:44].min() == 1
    assert skeleton[[30, 31, 37, 38], 20:44].max() == 0


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    iterations=st.integers(0, 6),
    seed=st.integers(0, 2**31),
)
def test_compiled_and_pooled_skeletons_and_their_gradients_are_the_same(batch, height, width, iterations, seed):
    random = torch.Generator().manual_seed(seed)
    # Smooth, so that vessels are wider than a pixel; then ranks: two equal pixels would leave the gradient open.
    smooth = torch.nn.functional.avg_pool2d(torch.rand(batch, 1, height + 4, width + 4, generator=random), 5, 1)
    picture = ((smooth.flatten().argsort().argsort() + 0.5) / smooth.numel()).reshape(smooth.shape)
    weight = torch.rand(picture.shape, generator=random)
    made = []
    for skeleton in (soft_skeleton, pooled_skeleton):
        x = picture.clone().requires_grad_()
        y = skeleton(x, iterations)
        (y * weight).sum().backward()
        made.append((y.detach(), x.grad))
    (compiled, compiled_gradient), (pooled, pooled_gradient) = made
    torch.testing.assert_close(compiled, pooled, rtol=0, atol=1e-6)
    torch.testing.assert_close(compiled_gradient, pooled_gradient, rtol=1e-5, atol=1e-5)


def test_the_skeleton_of_a_bfloat16_picture_is_of_its_type():
    x = line(9).bfloat16().requires_grad_()
    skeleton = soft_skeleton(x, 8)
    skeleton.sum().backward()
    assert skeleton.dtype == x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(skeleton.float(), soft_skeleton(line(9), 8))


def test_tolerant_dice_forgives_a_border_two_pixels_off_and_no_more():
    target, moved, far = line(9), torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    moved[..., 32:41, 4:60] = 1
    far[..., 36:45, 4:60] = 1
    assert tolerant_dice_loss(certain(moved), target) < 1e-3 < 0.2 < soft_dice_loss(certain(moved), target)
    assert tolerant_dice_loss(certain(far), target) > 0.4


@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_distillation_is_least_at_the_teacher_s_own_logits(temperature):
    teacher = torch.tensor([-3.0, 0.0, 2.0])
    logits = teacher.clone().requires_grad_()
    distillation_loss(logits, teacher, temperature).backward()
    assert logits.grad.abs().max() < 1e-6
    logits = (teacher + 1).requires_grad_()
    distillation_loss(logits, teacher, temperature).backward()
    assert (logits.grad > 0).all()


def test_the_loss_is_the_weighted_sum_of_its_terms():
    logits, target = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 1, 32, 32)
    alone = segmentation_loss(logits, target, {'dice': 1.0, 'bce': 0.0, 'cldice': 0.0})
    assert alone == soft_dice_loss(logits, target)
    both = segmentation_loss(logits, target, {'dice': 1.0, 'bce': 2.0})
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    assert both.item() == pytest.approx((alone + 2 * cross_entropy).item(), rel=1e-6)
