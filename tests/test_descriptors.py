"""Descriptors of eyes and mouth: gradient orientations, backbones from files, errors."""

import numpy as np
import pytest
import timm
import torch

from svfap.models.descriptors import GradientOrientations, create_descriptor


def stripes(angle: float, size: int = 64) -> torch.Tensor:
    """(1, 3, size, size) waves whose gradient points in one direction (radians, y down)."""
    y, x = np.mgrid[:size, :size]
    wave = 0.5 + 0.4 * np.sin(0.6 * (x * np.cos(angle) + y * np.sin(angle)))
    return torch.tensor(np.stack([wave] * 3)[None], dtype=torch.float32)


def test_hog_votes_go_to_the_direction():
    for number in range(9):
        found = GradientOrientations()(stripes(number * np.pi / 9)).view(49, 9, 4).sum((0, 2))
        assert int(found.argmax()) == number


def test_hog_equals_loops():
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    grey = np.einsum("chw,c->hw", image[0].numpy(), [0.299, 0.587, 0.114])
    edge = np.pad(grey, 1, mode="edge")
    cells = np.zeros((9, 2, 2))
    for y in range(16):
        for x in range(16):
            gx, gy = edge[y + 1, x + 2] - edge[y + 1, x], edge[y + 2, x + 1] - edge[y, x + 1]
            place = np.arctan2(gy, gx) % np.pi / np.pi * 9
            low = int(place)
            for number, share in ((low, 1 - (place - low)), (low + 1, place - low)):
                cells[number % 9, y // 8, x // 8] += share * np.hypot(gx, gy) / 64
    block = cells.reshape(9, 4) / (np.linalg.norm(cells) + 1e-3)
    block = np.minimum(block, 0.2)
    expected = (block / np.linalg.norm(block)).ravel()
    np.testing.assert_allclose(GradientOrientations()(image)[0], expected, atol=1e-5)


def test_hog_ignores_light_and_tells_shapes_apart():
    describe = create_descriptor("hog")
    one, other = stripes(0.0), stripes(np.pi / 3)
    vectors = describe(torch.cat([one, 0.5 * one, other]), torch.cat([one, one, other]))
    assert vectors.shape == (3, describe.dim) == (3, 3528)
    cosine = torch.nn.functional.cosine_similarity(vectors[:1], vectors[1:])
    assert cosine[0] > 0.999
    assert cosine[1] < 0.5


def test_backbone_with_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    trained = timm.create_model("test_resnet", num_classes=5)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    describe = create_descriptor("test_resnet", tmp_path / "weights.pth")
    eyes, mouth = torch.rand(2, 2, 3, 64, 64)
    vectors = describe(eyes, mouth)
    facts = trained.pretrained_cfg
    mean, std = (torch.tensor(facts[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    trained.eval().reset_classifier(0)
    expected = torch.cat([trained((part - mean) / std) for part in (eyes, mouth)], 1)
    assert vectors.shape == (2, describe.dim) == (2, 2 * trained.num_features)
    torch.testing.assert_close(vectors, expected)
    assert not vectors.requires_grad
    assert not describe.train().part.backbone.training


def test_backbones_with_layers_before_their_classifier(tmp_path):
    """MobileNetV3 widens its pooled features (288) for the classifier (1024)."""
    trained = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=3)
    torch.save(trained.state_dict(), tmp_path / "trained.pth")
    describe = create_descriptor("mobilenetv3_small_050", tmp_path / "trained.pth")
    parts = torch.rand(2, 1, 3, 64, 64)
    assert describe(*parts).shape == (1, describe.dim) == (1, 2 * 1024)


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="needs weights.*'hog'"):
        create_descriptor("resnet18")
    with pytest.raises(ValueError, match="did you mean resnet18"):
        create_descriptor("resnet_18")
    with pytest.raises(ValueError, match="has no weights"):
        create_descriptor("hog", tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        create_descriptor("resnet18", tmp_path / "x.pth")
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not fit the backbone 'test_resnet'"):
        create_descriptor("test_resnet", tmp_path / "other.pth")
