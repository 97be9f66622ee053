"""Image backbones of timm and contrastive models: what the model contract asks of them."""

import copy
import json

import pytest
import timm
import torch

from svfap import models
from svfap.models.batch_norm import GlobalBatchNorm, synchronise_batch_norm
from tests.processes import outputs_of_two

SMALL = [("timm/test_resnet", 32), ("timm/test_vit", 48), ("timm/test_convnext", 64)]


def build(name, size, **more):
    torch.manual_seed(0)
    return models.create_model(name, img_size=size, **more).eval()


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_image_models_follow_the_contract(name, size):
    model = build(name, size, num_frames=3, num_classes=4)
    assert json.loads(json.dumps(model.config)) == model.config
    again = models.create_model(**model.config).eval()
    again.load_state_dict(model.state_dict())
    clip = torch.randn(2, 3, 3, size, size)
    assert torch.equal(model(clip), again(clip)) and model(clip).shape == (2, 4)
    groups = model.layer_groups()
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert groups[-1] == ["head.weight", "head.bias"] and len(groups) > 3
    assert model.no_weight_decay() <= set(names)
    model.reset_classifier(2)
    assert model(clip).shape == (2, 2) and model.config["num_classes"] == 2
    with pytest.raises(ValueError, match="frames, height"):
        model(clip[:, :, :2])


@pytest.mark.parametrize(("name", "size"), SMALL)
def test_features_are_the_mean_of_what_timm_gives_for_the_frames(name, size):
    model = build(name, size, num_frames=3)
    bare = timm.create_model(
        name.removeprefix("timm/"), num_classes=0,
        **({"img_size": size} if "vit" in name else {}),
    ).eval()  # fmt: skip
    bare.load_state_dict(model.backbone.state_dict())
    clip = torch.randn(2, 3, 3, size, size)
    expected = torch.stack([bare(clip[:, :, t]) for t in range(3)], 1)
    torch.testing.assert_close(model.forward_features(clip), expected.mean(1), rtol=1e-4, atol=1e-5)
    by_frame = build(name, size, num_frames=3, keep_temporal_dim=True)
    assert by_frame(clip, per_frame=True).shape == (2, 3, 7) and by_frame.output_steps == 3


def test_plain_timm_weights_load_and_classifiers_are_left_out():
    model, bare = build("test_resnet", 32), timm.create_model("test_resnet", num_classes=10)
    report = models.load_weights(model, bare.state_dict())
    assert report.ok and set(report.unused) == {"fc.weight", "fc.bias"}
    assert torch.equal(model.backbone.conv1[0].weight, bare.conv1[0].weight)
    with pytest.raises(ValueError, match="do not fit timm/test_resnet"):
        models.load_weights(model, timm.create_model("test_vit").state_dict())


def test_position_embeddings_follow_another_frame_size():
    small, large = build("test_vit", 48), build("test_vit", 96)
    report = models.load_weights(large, small.state_dict())
    assert report.resized == ["backbone.pos_embed"] and report.ok


def test_names():
    assert models.default_config("resnet50")["name"] == "timm/resnet50"
    assert models.contrastive_name("resnet50") == "contrastive_timm/resnet50"
    assert models.contrastive_name("pretrain_svfap_base_patch16_160") == (
        "contrastive_svfap_base_patch16_160"
    )
    # an alias of ours comes before timm's models
    assert models.encoder_name("vit_base_patch16_160") == "videomae_base_patch16_160"
    assert models.is_image_model("contrastive_timm/resnet18")
    assert not models.is_image_model("svfap_tiny_patch8_64")
    for name in ("resnet19", "timm/svfap_tiny_patch8_64", "pretrain_resnet18",
                 "contrastive_pretrain_svfap_tiny_patch8_64"):  # fmt: skip
        with pytest.raises(ValueError, match="unknown model .*timm/NAME"):
            models.default_config(name)


@pytest.mark.parametrize(
    "name", ["timm/test_resnet", "svfap_tiny_patch8_64", "maedfer_tiny_patch8_64"]
)
def test_contrastive_models_are_an_encoder_and_a_projection(name):
    model = build(models.contrastive_name(name), 64, projection_dim=12)
    again = models.create_model(**json.loads(json.dumps(model.config))).eval()
    again.load_state_dict(model.state_dict())
    clip = torch.randn(2, 3, model.num_frames, 64, 64)
    assert torch.equal(model(clip), again(clip)) and model(clip).shape == (2, 12)
    names = [name for group in model.layer_groups() for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    encoder = build(name, 64, num_classes=5)
    report = models.load_weights(encoder, {"model": model.state_dict()})
    assert report.ok and all(name.startswith("projection.") for name in report.unused)
    torch.testing.assert_close(encoder.forward_features(clip), model.encoder.forward_features(clip))
    assert model.projection[0].out_features == model.embed_dim


def norms():
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(),
        torch.nn.Linear(16, 5), torch.nn.BatchNorm1d(5),
    )  # fmt: skip


def images():
    return torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(2))


def step(model, part):
    """Outputs, and gradients of a loss whose mean over processes is that of the whole batch."""
    outputs = model(part)
    outputs.square().sin().mean().backward()
    return outputs, torch.cat([p.grad.flatten() for p in model.parameters()])


def two_processes():
    """The process of the test below."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    model = synchronise_batch_norm(norms(), on_cuda=False)
    assert type(model[1]) is GlobalBatchNorm
    rank = dist.get_rank()
    outputs, gradient = step(model, images()[3 * rank : 3 * rank + 3])
    dist.all_reduce(gradient)
    print(json.dumps({
        "outputs": outputs.flatten().tolist(), "gradient": (gradient / 2).tolist(),
        "state": {name: value.flatten().tolist() for name, value in model.state_dict().items()},
    }))  # fmt: skip
    dist.destroy_process_group()


def test_norms_with_activations_are_shared_too(tmp_path):
    """timm's BatchNormAct2d; over one process they are what they were."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), timm.layers.BatchNormAct2d(4))
    shared = synchronise_batch_norm(copy.deepcopy(model), on_cuda=False)
    assert isinstance(shared[1], GlobalBatchNorm)
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        for one, other in zip(step(shared, images()), step(model, images())):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(shared.state_dict(), model.state_dict())
        torch.testing.assert_close(shared.eval()(images()), model.eval()(images()))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_norm_like_one_with_the_whole_batch():
    model = norms()
    outputs, gradient = step(model, images())
    found = [json.loads(out.splitlines()[-1]) for out in outputs_of_two("test_models_images")]
    together = torch.tensor(found[0]["outputs"] + found[1]["outputs"]).view(6, 5)
    torch.testing.assert_close(together, outputs.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.tensor(found[0]["gradient"]), gradient, rtol=1e-4, atol=1e-6)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(
            torch.tensor(found[1]["state"][name]).to(value), value.flatten(), rtol=1e-5, atol=1e-6
        )
