"""Writes doctor.txt: the keys and shapes of files as programs write them, for the test of `archc doctor`.

Networks are made without values, from torchvision, timm and transformers; what trainings put around them is written down here as
their own sources have it. A line is `KEY [SHAPE]`, where {0-11} stands for every number of the range, and `/` for a dictionary in
another one of a PyTorch file; `NAME = TEXT` is an entry that is no tensor.

    python tests/reference/doctor.py
"""

import re
from pathlib import Path

import timm
import torch
import torchvision
import transformers
from timm.utils.model import reparameterize_model

OUT = Path(__file__).with_name("doctor.txt")


def shapes(make):
    with torch.device("meta"):
        model = make()
    return {key: list(value.shape) for key, value in model.state_dict().items()}


def tv(name, **kwargs):
    return shapes(lambda: getattr(torchvision.models, name)(weights=None, **kwargs))


def tm(name, **kwargs):
    return shapes(lambda: timm.create_model(name, pretrained=False, **kwargs))


def renamed(state, *rules):
    """Each key by the first regex that matches all of it; None takes the key out."""
    out = {}
    for key, shape in state.items():
        for pattern, text in rules:
            if re.fullmatch(pattern, key):
                key = None if text is None else re.sub(pattern, text, key, count=1)
                break
        if key is not None:
            out[key] = shape
    return out


def under(prefix, state):
    return {prefix + key: shape for key, shape in state.items()}


def linears(prefix, *layers):
    return {f"{prefix}{name}.{kind}": shape for name, out, size in layers for kind, shape in (("weight", [out, size]), ("bias", [out]))}


def norms(prefix, *layers):
    kinds = ["weight", "bias", "running_mean", "running_var"]
    state = {f"{prefix}{name}.{kind}": [size] for name, size in layers for kind in kinds}
    return state | {f"{prefix}{name}.num_batches_tracked": [] for name, _ in layers}


def adam(state, prefix):
    learned = [shape for key, shape in state.items() if not re.search(r"running_|num_batches", key)]
    out = {}
    for at, shape in enumerate(learned[:12]):
        out |= {f"{prefix}{at}/step": [], f"{prefix}{at}/exp_avg": shape, f"{prefix}{at}/exp_avg_sq": shape}
    return out


def headless(state, head):
    return {key: shape for key, shape in state.items() if not key.startswith(head)}


def files():
    resnet50, resnet18 = tv("resnet50"), tv("resnet18")
    yield "torchvision.safetensors", "torchvision's ResNet-50", resnet50
    flowers = tv("resnet50", num_classes=37)
    yield "timm_training.pth", "timm's training of a ResNet-50 for 37 classes, with a running average", (
        {"arch": "resnet50", "args": "Namespace", "epoch": 12}
        | under("state_dict/", flowers)
        | under("state_dict_ema/", flowers)
        | adam(flowers, "optimizer/state/")
    )
    body = headless(resnet50, "fc.")
    encoder = body | linears("fc.", ("0", 2048, 2048), ("2", 128, 2048))
    yield "moco_v2.pth", "MoCo v2", (
        {"arch": "resnet50", "epoch": 200}
        | under("state_dict/module.encoder_q.", encoder)
        | under("state_dict/module.encoder_k.", encoder)
        | {"state_dict/module.queue": [128, 65536], "state_dict/module.queue_ptr": [1]}
    )
    head = {f"fc.{at}.weight": [2048, 2048] for at in (0, 3, 6)} | norms("fc.", ("1", 2048), ("4", 2048), ("7", 2048))
    yield "simsiam.pth", "SimSiam", (
        {"arch": "resnet50", "epoch": 100}
        | under("state_dict/module.encoder.", body | head | {"fc.6.bias": [2048]})
        | under("state_dict/module.predictor.", {"0.weight": [512, 2048]} | norms("", ("1", 512)) | linears("", ("3", 2048, 512)))
    )
    yield "lightning.ckpt", "a Lightning module that calls its network `model`", (
        {"pytorch-lightning_version": "2.4.0", "epoch": 3}
        | under("state_dict/model.", tv("resnet18", num_classes=5))
        | adam(resnet18, "optimizer_states/state/")
    )
    yield "mm_resnet.pth", "MMPretrain's ResNet-50", (
        {"message_hub": "..", "meta": ".."}
        | under("state_dict/", renamed(resnet50, (r"fc\.(.*)", r"head.fc.\1"), ("(.*)", r"backbone.\1")))
    )
    yield "fcn.safetensors", "torchvision's FCN on a ResNet-50", shapes(
        lambda: torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    )
    yield "compiled.safetensors", "a compiled ResNet-18 in DistributedDataParallel, of 8 classes", under(
        "module._orig_mod.", tv("resnet18", num_classes=8)
    )
    yield "vgg_features.safetensors", "VGG-16 without its classifier", headless(tv("vgg16"), "classifier")
    yield "vit_384.safetensors", "torchvision's ViT-B/16 for pictures of 384 x 384, of 6 classes", tv(
        "vit_b_16", image_size=384, num_classes=6
    )
    yield "hf_resnet.safetensors", "transformers' ResNetForImageClassification", shapes(
        lambda: transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))
    )

    vit = tm("vit_base_patch16_224")
    small = tm("vit_small_patch16_224")
    yield "vit_base_patch16_384.augreg.safetensors", "timm's vit_base_patch16_384", tm("vit_base_patch16_384")
    yield "dino_vits16.pth", "DINO: student and teacher with their heads", (
        {"args": "Namespace", "epoch": 100}
        | under("student/module.backbone.", headless(small, "head."))
        | under("student/module.head.", linears("mlp.", ("0", 2048, 384), ("2", 2048, 2048), ("4", 256, 2048)) | {"last_layer.weight_g": [65536, 1], "last_layer.weight_v": [65536, 256]})
        | under("teacher/backbone.", headless(small, "head."))
        | under("teacher/head.", linears("mlp.", ("0", 2048, 384), ("2", 2048, 2048), ("4", 256, 2048)) | {"last_layer.weight_g": [65536, 1], "last_layer.weight_v": [65536, 256]})
    )
    decoder = {"decoder_pos_embed": [1, 197, 512], "mask_token": [1, 1, 512]}
    decoder |= linears("", ("decoder_embed", 512, 768), ("decoder_pred", 768, 512)) | {"decoder_norm.weight": [512], "decoder_norm.bias": [512]}
    for at in range(8):
        block = f"decoder_blocks.{at}."
        decoder |= linears(block, ("attn.qkv", 1536, 512), ("attn.proj", 512, 512), ("mlp.fc1", 2048, 512), ("mlp.fc2", 512, 2048))
        decoder |= {f"{block}norm{nth}.{kind}": [512] for nth in (1, 2) for kind in ("weight", "bias")}
    yield "mae_pretrain.pth", "MAE, with its decoder", under("model/", headless(vit, "head.") | decoder)
    dinov2 = tm("vit_small_patch14_dinov2", num_classes=0)
    yield "dinov2_vits14.pth", "DINOv2 as its authors give it", dinov2 | {"mask_token": [1, 384]}
    chunked = {re.sub(r"blocks\.(\d+)\.", lambda found: f"blocks.{int(found[1]) // 3}.{found[1]}.", key): shape for key, shape in dinov2.items()}
    yield "dinov2_teacher.pth", "DINOv2's teacher in the midst of its training, blocks in four chunks", (
        under("teacher/backbone.", chunked | {"mask_token": [1, 384]})
        | under("teacher/dino_head.", linears("mlp.", ("0", 2048, 384), ("2", 2048, 2048), ("4", 256, 2048)) | {"last_layer.weight_g": [65536, 1], "last_layer.weight_v": [65536, 256]})
    )
    authors = {"mask_token": [1, 384], "register_tokens": [1, 4, 384]} | dinov2
    yield "dinov2_vits14_reg4.pth", "DINOv2 with registers as its authors give it", authors
    large = tm("vit_giant_patch14_dinov2", num_classes=0)
    yield "dinov2_vitg14.pth", "DINOv2's giant as its authors give it", {"mask_token": [1, 1536]} | renamed(
        large, (r"(.*)\.mlp\.fc1\.(.*)", r"\1.mlp.w12.\2"), (r"(.*)\.mlp\.fc2\.(.*)", r"\1.mlp.w3.\2")
    )
    yield "vit_small_reg4.safetensors", "timm's DINOv2 with registers", tm("vit_small_patch14_reg4_dinov2")

    def moco_v3(body, name, width, dim, hidden=4096, out=256):
        """Encoder and its running average with their projectors, and a predictor."""
        def tower(prefix):
            sizes = [width, hidden, hidden, out]
            layers = {f"{name}.{3 * at}.weight": [sizes[at + 1], sizes[at]] for at in range(3)}
            layers |= norms(f"{name}.", ("1", hidden), ("4", hidden))
            layers |= {f"{name}.7.{kind}": shape for kind, shape in (("running_mean", [out]), ("running_var", [out]), ("num_batches_tracked", []))}
            return under(f"state_dict/module.{prefix}.", body | layers)
        predictor = {"0.weight": [hidden, out], "3.weight": [out, hidden]} | norms("", ("1", hidden))
        return {"epoch": 300, "arch": dim} | tower("base_encoder") | tower("momentum_encoder") | under("state_dict/module.predictor.", predictor)

    yield "moco_v3_vit_s.pth", "MoCo v3's ViT-S", moco_v3(headless(small, "head."), "head", 384, "vit_small")
    yield "moco_v3_vit_b.pth", "MoCo v3's ViT-B", moco_v3(headless(vit, "head."), "head", 768, "vit_base")
    yield "moco_v3_resnet.pth", "MoCo v3's ResNet-50", moco_v3(body, "fc", 2048, "resnet50")
    yield "swav.pth", "SwAV's published ResNet-50", under("module.", body | linears("projection_head.", ("0", 2048, 2048), ("3", 128, 2048)) | norms("projection_head.", ("1", 2048)) | {"prototypes.weight": [3000, 128]})
    twins = {f"projector.{at}.weight": [8192, size] for at, size in ((0, 2048), (3, 8192), (6, 8192))} | norms("projector.", ("1", 8192), ("4", 8192))
    twins |= {f"bn.{kind}": shape for kind, shape in (("running_mean", [8192]), ("running_var", [8192]), ("num_batches_tracked", []))}
    yield "barlow_twins.pth", "Barlow Twins in the midst of its training", {"epoch": 999} | under("model/module.", under("backbone.", body) | twins) | adam(body, "optimizer/state/")
    deep = headless(tm("resnet50c"), "fc.")
    def head(inputs, out, name):
        state = {f"{name}.convs.0.conv.weight": [out, inputs, 3, 3]} | norms(f"{name}.convs.0.", ("bn", out))
        return state | {f"{name}.conv_seg.weight": [19, out, 1, 1], f"{name}.conv_seg.bias": [19]}
    stem = renamed(deep, (r"conv1\.(\d)\.(.*)", r"stem.\1.\2"), (r"bn1\.(.*)", r"stem.7.\1"))
    yield "mmseg_fcn_r50-d8.pth", "MMSegmentation's FCN on a ResNet-50 v1c", {"meta": ".."} | under("state_dict/", under("backbone.", stem) | head(2048, 512, "decode_head") | head(1024, 256, "auxiliary_head"))
    yield "repvgg_deploy.safetensors", "timm's RepVGG-A2, folded, as archc folds it", shapes(lambda: reparameterize_model(timm.create_model("repvgg_a2", num_classes=9)))
    mm = [
        (r"head\.(.*)", None),
        (r"patch_embed\.proj\.(.*)", r"backbone.patch_embed.projection.\1"),
        (r"norm\.(.*)", None),
        (r"blocks\.(\d+)\.norm(\d)\.(.*)", r"backbone.layers.\1.ln\2.\3"),
        (r"blocks\.(\d+)\.attn\.qkv\.(.*)", r"backbone.layers.\1.attn.attn.in_proj_\2"),
        (r"blocks\.(\d+)\.attn\.proj\.(.*)", r"backbone.layers.\1.attn.attn.out_proj.\2"),
        (r"blocks\.(\d+)\.mlp\.fc1\.(.*)", r"backbone.layers.\1.ffn.layers.0.0.\2"),
        (r"blocks\.(\d+)\.mlp\.fc2\.(.*)", r"backbone.layers.\1.ffn.layers.1.\2"),
        (r"(.*)", r"backbone.\1"),
    ]
    places = tm("vit_base_patch16_224", img_size=512)
    yield "mmseg_vit.pth", "MMSegmentation's UPerNet on a ViT-B/16, for pictures of 512 x 512", {"meta": ".."} | under("state_dict/", renamed(places, *mm) | head(768, 512, "decode_head"))
    yield "mm_vit.pth", "MMPretrain's ViT-B/16", under("state_dict/", renamed(
        vit,
        (r"head\.(.*)", r"head.layers.head.\1"),
        (r"patch_embed\.proj\.(.*)", r"backbone.patch_embed.projection.\1"),
        (r"norm\.(.*)", r"backbone.ln1.\1"),
        (r"blocks\.(\d+)\.norm(\d)\.(.*)", r"backbone.layers.\1.ln\2.\3"),
        (r"blocks\.(\d+)\.mlp\.fc1\.(.*)", r"backbone.layers.\1.ffn.layers.0.0.\2"),
        (r"blocks\.(\d+)\.mlp\.fc2\.(.*)", r"backbone.layers.\1.ffn.layers.1.\2"),
        (r"blocks\.(.*)", r"backbone.layers.\1"),
        (r"(.*)", r"backbone.\1"),
    ))
    # what version 5 calls otherwise in the module, and saves under the names of version 4
    attention = [
        (r"(.*)\.attention\.([qkv])_proj\.(.*)", lambda found: f"{found[1]}.attention.attention.{dict(q='query', k='key', v='value')[found[2]]}.{found[3]}"),
        (r"(.*)\.attention\.o_proj\.(.*)", r"\1.attention.output.dense.\2"),
    ]

    def saved(state, *rules):
        state = renamed(state, *attention)
        return renamed(state, *rules) if rules else state

    def saved_vit(state):
        mlp = ((r"(.*)\.mlp\.fc1\.(.*)", r"\1.intermediate.dense.\2"), (r"(.*)\.mlp\.fc2\.(.*)", r"\1.output.dense.\2"))
        return renamed(saved(state, *mlp), (r"((?:vit\.|deit\.)?)layers\.(.*)", r"\1encoder.layer.\2"))

    hf = transformers
    classifier = shapes(lambda: hf.ViTForImageClassification(hf.ViTConfig(num_labels=7)))
    yield "hf_vit.safetensors", "transformers' ViTForImageClassification of 7 classes", saved_vit(classifier)
    yield "hf_vit_5.pth", "the state of the same in transformers 5", classifier
    yield "hf_vit_model.safetensors", "transformers' ViTModel, of DINO", saved_vit(shapes(lambda: hf.ViTModel(hf.ViTConfig())))
    yield "hf_mae_5.pth", "the state of transformers' ViTMAEForPreTraining in version 5", shapes(
        lambda: hf.ViTMAEForPreTraining(hf.ViTMAEConfig())
    )
    distilled = shapes(lambda: hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(num_labels=1000)))
    yield "hf_deit.safetensors", "transformers' distilled DeiT-B", saved_vit(distilled)
    yield "hf_deit_5.pth", "the state of the same in transformers 5", distilled
    small_dino = dict(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)
    tokens = shapes(lambda: hf.Dinov2Model(hf.Dinov2Config(**small_dino)))
    yield "hf_dinov2.safetensors", "transformers' Dinov2Model", saved(tokens)
    yield "hf_dinov2_5.pth", "the state of the same in transformers 5", tokens
    giant_dino = dict(hidden_size=1536, num_attention_heads=24, num_hidden_layers=40, image_size=518, patch_size=14, use_swiglu_ffn=True)
    giant = shapes(lambda: hf.Dinov2ForImageClassification(hf.Dinov2Config(**giant_dino, num_labels=1000)))
    yield "hf_dinov2_giant_5.pth", "the state of transformers' Dinov2ForImageClassification, giant, in version 5", giant
    packed = {key.replace("gate_proj", "weights_in"): [2 * shape[0], *shape[1:]] if "gate_proj" in key else shape for key, shape in giant.items() if "up_proj" not in key}
    yield "hf_dinov2_giant.safetensors", "the same as it is saved", saved(packed, (r"(.*)\.mlp\.down_proj\.(.*)", r"\1.mlp.weights_out.\2"))
    registers = shapes(lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**small_dino)))
    yield "hf_dinov2_registers.safetensors", "transformers' Dinov2WithRegistersModel", saved(registers)
    yield "hf_dinov2_registers_5.pth", "the state of the same in transformers 5", registers
    vision = dict(patch_size=16)
    yield "hf_clip.safetensors", "transformers' CLIPModel, ViT-B/16", shapes(
        lambda: hf.CLIPModel(hf.CLIPConfig(vision_config=vision))
    )
    tower = shapes(lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**vision)))
    yield "hf_clip_vision_5.safetensors", "transformers' CLIPVisionModel in version 5", tower
    yield "hf_clip_vision.safetensors", "the same in version 4", under("vision_model.", tower) | {"vision_model.embeddings.position_ids": [1, 197]}
    yield "hf_clip_projection.safetensors", "transformers' CLIPVisionModelWithProjection", shapes(
        lambda: hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**vision))
    )
    visual = renamed(
        headless(vit, "head."),
        (r"patch_embed\.proj\.weight", "conv1.weight"),
        (r"patch_embed\.proj\.bias", None),
        (r"norm\.(.*)", r"ln_post.\1"),
        (r"blocks\.(\d+)\.norm(\d)\.(.*)", r"transformer.resblocks.\1.ln_\2.\3"),
        (r"blocks\.(\d+)\.attn\.qkv\.(.*)", r"transformer.resblocks.\1.attn.in_proj_\2"),
        (r"blocks\.(\d+)\.attn\.proj\.(.*)", r"transformer.resblocks.\1.attn.out_proj.\2"),
        (r"blocks\.(\d+)\.mlp\.fc1\.(.*)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
        (r"blocks\.(\d+)\.mlp\.fc2\.(.*)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
        (r"cls_token|pos_embed", None),
    ) | {"class_embedding": [768], "positional_embedding": [197, 768], "proj": [768, 512], "ln_pre.weight": [768], "ln_pre.bias": [768]}
    text = {"positional_embedding": [77, 512], "text_projection": [512, 512], "logit_scale": [], "token_embedding.weight": [49408, 512]}
    text |= {"ln_final.weight": [512], "ln_final.bias": [512]}
    for at in range(12):
        block = f"transformer.resblocks.{at}."
        text |= linears(block, ("attn.out_proj", 512, 512), ("mlp.c_fc", 2048, 512), ("mlp.c_proj", 512, 2048))
        text |= {f"{block}attn.in_proj_weight": [1536, 512], f"{block}attn.in_proj_bias": [1536]}
        text |= {f"{block}ln_{nth}.{kind}": [512] for nth in (1, 2) for kind in ("weight", "bias")}
    yield "clip.safetensors", "OpenAI's CLIP, ViT-B/16", under("visual.", visual) | text

    # these fit nothing
    wide = {key: [32 if size == 64 and key.startswith(("conv1", "bn1")) else size for size in shape] for key, shape in resnet18.items()}
    yield "narrow_stem.safetensors", "a ResNet-18 with another stem", wide
    bands = dict(resnet50)
    bands["conv1.weight"] = [64, 4, 7, 7]
    yield "four_bands.safetensors", "a ResNet-50 for pictures of four bands", bands
    yield "bert.safetensors", "a language model", shapes(
        lambda: transformers.BertModel(transformers.BertConfig(num_hidden_layers=2, vocab_size=1000))
    )
    yield "optimizer.pth", "an optimizer alone", adam(resnet18, "state/")


def folded(state):
    """Lines, the keys that differ in one number and have one shape together."""
    lines = [(key, shape) for key, shape in state.items() if isinstance(shape, list)]
    for nth in range(6):
        groups = {}
        for key, shape in lines:
            numbers = list(re.finditer(r"(?<=[./])\d+(?=[./])", key))
            if nth >= len(numbers):
                groups.setdefault((key, str(shape)), [key, shape, None])
                continue
            at = numbers[nth]
            entry = groups.setdefault((key[: at.start()], key[at.end() :], str(shape)), [(key[: at.start()], key[at.end() :]), shape, []])
            entry[2].append(int(at[0]))
        lines = []
        for place, shape, numbers in groups.values():
            if numbers is None:
                lines.append((place, shape))
                continue
            before, after = place
            numbers.sort()
            while numbers:
                end = 1
                while end < len(numbers) and numbers[end] == numbers[0] + end:
                    end += 1
                span = str(numbers[0]) if end == 1 else "{%d-%d}" % (numbers[0], numbers[end - 1])
                lines.append((before + span + after, shape))
                numbers = numbers[end:]
    entries = [f"{key} = {value}" for key, value in state.items() if not isinstance(value, list)]
    return entries + [f"{key} {shape}" for key, shape in lines]


def main():
    text = ""
    for name, what, state in files():
        text += f"=== {name}: {what}\n" + "".join(line + "\n" for line in folded(state)) + "\n"
    OUT.write_text(text)


if __name__ == "__main__":
    main()
