"""The networks of zoo/ and the PyTorch modules that they must equal.

The weights are never downloaded: the modules are built with `weights=None`, so keys, shapes and arithmetic are compared,
and the values are random.
"""

import json
import re

import timm
import torch
import torchvision
from timm.utils.model import reparameterize_model

TORCHVISION = """
resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d wide_resnet50_2
wide_resnet101_2 vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn alexnet squeezenet1_0 squeezenet1_1
densenet121 densenet161 densenet169 densenet201 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large
mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3
efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
efficientnet_b7 efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l googlenet inception_v3
shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0
regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf regnet_x_32gf
regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf regnet_y_128gf
convnext_tiny convnext_small convnext_base convnext_large vit_b_16 vit_b_32 vit_l_16 vit_l_32 vit_h_14
swin_t swin_s swin_b swin_v2_t swin_v2_s swin_v2_b maxvit_t
""".split()

# torchvision's that give each pixel a class.
SEGMENTATION = """
fcn_resnet50 fcn_resnet101 deeplabv3_resnet50 deeplabv3_resnet101 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large
""".split()

# With the heads beside their own that published files hold, each one more output.
HEADED = """
googlenet inception_v3 fcn_resnet50 deeplabv3_resnet50 deeplabv3_mobilenet_v3_large
""".split()

# By timm's names, with `timm_` before one that torchvision has too.
TIMM = """
vit_tiny_patch16_224 vit_tiny_patch16_384 vit_small_patch32_224 vit_small_patch32_384 vit_small_patch16_224
vit_small_patch16_384 vit_base_patch32_224 vit_base_patch32_384 vit_base_patch16_224 vit_base_patch16_384 vit_base_patch8_224
vit_large_patch32_224 vit_large_patch32_384 vit_large_patch16_224 vit_large_patch16_384 vit_large_patch14_224
vit_huge_patch14_224 vit_giant_patch14_224 vit_gigantic_patch14_224 flexivit_small flexivit_base flexivit_large
eva_large_patch14_196 beit_base_patch16_224 beit_base_patch16_384 beit_large_patch16_224 beit_large_patch16_384
beit_large_patch16_512 beitv2_base_patch16_224 beitv2_large_patch16_224 vit_small_patch8_224 deit_tiny_patch16_224
deit_small_patch16_224 deit_base_patch16_224 deit_base_patch16_384 deit_tiny_distilled_patch16_224
deit_small_distilled_patch16_224 deit_base_distilled_patch16_224 deit_base_distilled_patch16_384 deit3_small_patch16_224
deit3_small_patch16_384 deit3_medium_patch16_224 deit3_base_patch16_224 deit3_base_patch16_384 deit3_large_patch16_224
deit3_large_patch16_384 deit3_huge_patch14_224 vit_xsmall_patch16_clip_224 vit_medium_patch32_clip_224
vit_medium_patch16_clip_224 vit_betwixt_patch32_clip_224 vit_base_patch32_clip_224 vit_base_patch32_clip_256
vit_base_patch32_clip_384 vit_base_patch32_clip_448 vit_base_patch16_clip_224 vit_base_patch16_plus_clip_240
vit_large_patch14_clip_224 vit_huge_patch14_clip_224 vit_huge_patch14_clip_378 vit_giant_patch14_clip_224
vit_gigantic_patch14_clip_224 vit_base_patch32_clip_quickgelu_224 vit_base_patch16_clip_quickgelu_224
vit_large_patch14_clip_quickgelu_224 vit_large_patch14_clip_quickgelu_336 vit_huge_patch14_clip_quickgelu_224
vit_huge_patch14_clip_quickgelu_378 vit_gigantic_patch14_clip_quickgelu_224 vit_small_patch14_dinov2 vit_base_patch14_dinov2
vit_large_patch14_dinov2 vit_giant_patch14_dinov2 vit_small_patch14_reg4_dinov2 vit_base_patch14_reg4_dinov2
vit_large_patch14_reg4_dinov2 vit_giant_patch14_reg4_dinov2 vit_base_patch32_siglip_256 vit_base_patch16_siglip_224
vit_base_patch16_siglip_256 vit_base_patch16_siglip_384 vit_base_patch16_siglip_512 vit_large_patch16_siglip_256
vit_large_patch16_siglip_384 vit_large_patch16_siglip_512 vit_so400m_patch14_siglip_224 vit_so400m_patch14_siglip_378
vit_so400m_patch14_siglip_384 vit_so400m_patch16_siglip_256 vit_so400m_patch16_siglip_384 vit_so400m_patch16_siglip_512
vit_giantopt_patch16_siglip_256 vit_giantopt_patch16_siglip_384 vit_base_patch16_siglip_gap_224
vit_base_patch16_siglip_gap_256 vit_base_patch16_siglip_gap_384 vit_base_patch16_siglip_gap_512
vit_so400m_patch14_siglip_gap_224 vit_so400m_patch14_siglip_gap_378 vit_so400m_patch14_siglip_gap_384
vit_so400m_patch14_siglip_gap_448 vit_so400m_patch14_siglip_gap_896 vit_little_patch16_reg4_gap_256
vit_medium_patch16_reg4_gap_256 vit_mediumd_patch16_reg4_gap_256 vit_mediumd_patch16_reg4_gap_384
vit_betwixt_patch16_reg4_gap_256 vit_betwixt_patch16_reg4_gap_384 vit_base_patch16_reg4_gap_256
convnext_atto convnext_femto convnext_pico convnext_nano timm_convnext_tiny timm_convnext_small timm_convnext_base
timm_convnext_large convnext_xlarge convnext_atto_ols convnext_femto_ols convnext_pico_ols convnext_nano_ols convnext_tiny_hnf
convnext_large_mlp convnext_xxlarge convnextv2_atto convnextv2_femto convnextv2_pico convnextv2_nano convnextv2_tiny
convnextv2_small convnextv2_base convnextv2_large
swin_tiny_patch4_window7_224 swin_small_patch4_window7_224 swin_base_patch4_window7_224 swin_base_patch4_window12_384
swin_large_patch4_window7_224 swin_large_patch4_window12_384 swin_s3_tiny_224 swin_s3_small_224 swin_s3_base_224
swinv2_tiny_window8_256 swinv2_tiny_window16_256 swinv2_small_window8_256 swinv2_small_window16_256 swinv2_base_window8_256
swinv2_base_window16_256 swinv2_base_window12_192 swinv2_large_window12_192 swinv2_base_window12to16_192to256
swinv2_large_window12to16_192to256 swinv2_base_window12to24_192to384 swinv2_large_window12to24_192to384
vit_base_patch16_224_miil vit_small_patch16_36x1_224 vit_small_patch16_18x2_224 vit_base_patch16_18x2_224
vit_base_patch16_plus_240 vit_base_patch32_plus_256 vit_base_patch16_rpn_224 vit_base_patch16_xp_224
vit_large_patch14_xp_224 vit_huge_patch14_xp_224 vit_base_patch16_gap_224 vit_huge_patch14_gap_224
vit_huge_patch16_gap_448 vit_giant_patch16_gap_224 vit_medium_patch16_gap_240 vit_medium_patch16_gap_256
vit_medium_patch16_gap_384 vit_betwixt_patch16_gap_256 eva_large_patch14_336 vit_base_patch16_clip_384
vit_large_patch14_clip_336 vit_huge_patch14_clip_336 vit_gigantic_patch14_clip_378 vit_base_patch32_siglip_gap_256
vit_large_patch16_siglip_gap_256 vit_large_patch16_siglip_gap_384 vit_large_patch16_siglip_gap_512
vit_so400m_patch16_siglip_gap_256 vit_so400m_patch16_siglip_gap_384 vit_so400m_patch16_siglip_gap_512
vit_giantopt_patch16_siglip_gap_256 vit_giantopt_patch16_siglip_gap_384 vit_wee_patch16_reg1_gap_256
vit_pwee_patch16_reg1_gap_256 vit_dwee_patch16_reg1_gap_256 vit_dpwee_patch16_reg1_gap_256
vit_little_patch16_reg1_gap_256 vit_dlittle_patch16_reg1_gap_256 vit_medium_patch16_reg1_gap_256
vit_betwixt_patch16_reg1_gap_256 vit_so150m_patch16_reg4_gap_256 vit_so150m_patch16_reg4_gap_384
vit_so150m_patch16_reg4_map_256 vit_so150m2_patch16_reg1_gap_256 vit_so150m2_patch16_reg1_gap_384
vit_so150m2_patch16_reg1_gap_448 aimv2_large_patch14_224 aimv2_large_patch14_336 aimv2_large_patch14_448
aimv2_huge_patch14_224 aimv2_huge_patch14_336 aimv2_huge_patch14_448 aimv2_1b_patch14_224 aimv2_1b_patch14_336
aimv2_1b_patch14_448 aimv2_3b_patch14_224 aimv2_3b_patch14_336 aimv2_3b_patch14_448 beit3_base_patch16_224
beit3_large_patch16_224 beit3_giant_patch14_224 beit3_giant_patch14_336 vit_base_patch16_radio_v3
vit_large_patch16_radio_v3 vit_huge_patch16_radio_v3 vit_giant_patch16_radio_v3 vit_huge_patch16_radio_v4
vit_so400m_patch16_radio_v4 vit_intern300m_patch14_448 vit_base_patch14_reg1_tipsv2 vit_large_patch14_reg1_tipsv2
vit_so400m_patch14_reg1_tipsv2 vit_giant_patch14_reg1_tipsv2 test_vit test_vit2 test_vit3 test_vit4
eva_giant_patch14_224 eva_giant_patch14_336 eva_giant_patch14_560 eva_giant_patch14_clip_224 eva02_tiny_patch14_224
eva02_tiny_patch14_336 eva02_small_patch14_224 eva02_small_patch14_336 eva02_base_patch14_224 eva02_base_patch14_448
eva02_large_patch14_224 eva02_large_patch14_448 eva02_base_patch16_clip_224 eva02_large_patch14_clip_224
eva02_large_patch14_clip_336 eva02_enormous_patch14_clip_224 vit_medium_patch16_rope_reg1_gap_256
vit_mediumd_patch16_rope_reg1_gap_256 vit_betwixt_patch16_rope_reg4_gap_256 vit_base_patch16_rope_reg1_gap_256
vit_small_patch16_rope_224 vit_base_patch16_rope_224 vit_large_patch16_rope_224 vit_small_patch16_rope_ape_224
vit_base_patch16_rope_ape_224 vit_large_patch16_rope_ape_224 vit_small_patch16_rope_mixed_224
vit_base_patch16_rope_mixed_224 vit_large_patch16_rope_mixed_224 vit_small_patch16_rope_mixed_ape_224
vit_base_patch16_rope_mixed_ape_224 vit_large_patch16_rope_mixed_ape_224 vit_pe_core_tiny_patch16_384
vit_pe_core_small_patch16_384 vit_pe_core_base_patch16_224 vit_pe_core_large_patch14_336
vit_pe_core_gigantic_patch14_448 vit_pe_lang_large_patch14_448 vit_pe_lang_gigantic_patch14_448
vit_pe_spatial_tiny_patch16_512 vit_pe_spatial_small_patch16_512 vit_pe_spatial_base_patch16_512
vit_pe_spatial_large_patch14_448 vit_pe_spatial_gigantic_patch14_448 vit_tiny_patch16_dinov3_qkvb
vit_small_patch16_dinov3 vit_small_patch16_dinov3_qkvb vit_small_plus_patch16_dinov3
vit_small_plus_patch16_dinov3_qkvb vit_base_patch16_dinov3 vit_base_patch16_dinov3_qkvb vit_large_patch16_dinov3
vit_large_patch16_dinov3_qkvb vit_huge_plus_patch16_dinov3 vit_huge_plus_patch16_dinov3_qkvb vit_7b_patch16_dinov3
vit_small_patch16_lingbot vit_base_patch16_lingbot vit_large_patch16_lingbot vit_giant_patch16_lingbot
vit_base_patch16_sapiens2 vit_large_patch16_sapiens2 vit_huge_patch16_sapiens2 vit_giant_patch16_sapiens2
vit_5b_patch16_sapiens2
convnext_atto_rms convnext_zepto_rms convnext_zepto_rms_ols convnextv2_huge test_convnext test_convnext2
test_convnext3
vit_relpos_small_patch16_224 vit_relpos_medium_patch16_224 vit_relpos_base_patch16_224
vit_relpos_base_patch16_plus_240 vit_srelpos_small_patch16_224 vit_srelpos_medium_patch16_224
vit_relpos_medium_patch16_cls_224 vit_relpos_base_patch16_cls_224 vit_relpos_base_patch16_clsgap_224
vit_relpos_small_patch16_rpn_224 vit_relpos_medium_patch16_rpn_224 vit_relpos_base_patch16_rpn_224
vit_relpos_base_patch32_plus_rpn_256 test_vit_relpos maxvit_pico_rw_256 maxvit_nano_rw_256 maxvit_tiny_rw_224
maxvit_tiny_rw_256 maxvit_rmlp_pico_rw_256 maxvit_rmlp_nano_rw_256 maxvit_rmlp_tiny_rw_256 maxvit_rmlp_small_rw_224
maxvit_rmlp_small_rw_256 maxvit_rmlp_base_rw_224 maxvit_rmlp_base_rw_384 maxvit_tiny_tf_224 maxvit_tiny_tf_384
maxvit_tiny_tf_512 maxvit_small_tf_224 maxvit_small_tf_384 maxvit_small_tf_512 maxvit_base_tf_224 maxvit_base_tf_384
maxvit_base_tf_512 maxvit_large_tf_224 maxvit_large_tf_384 maxvit_large_tf_512 maxvit_xlarge_tf_224
maxvit_xlarge_tf_384 maxvit_xlarge_tf_512 test_maxvit
sequencer2d_s sequencer2d_m sequencer2d_l
""".split()

CONVOLUTIONAL = """
timm_efficientnet_b0 timm_efficientnet_b1 timm_efficientnet_b2 timm_efficientnet_b3 timm_efficientnet_b4
timm_efficientnet_b5 timm_efficientnet_b6 timm_efficientnet_b7 tf_efficientnet_b0 tf_efficientnet_b1
tf_efficientnet_b2 tf_efficientnet_b3 tf_efficientnet_b4 tf_efficientnet_b5 tf_efficientnet_b6 tf_efficientnet_b7
efficientnet_lite0 efficientnet_lite1 efficientnet_lite2 efficientnet_lite3 efficientnet_lite4 tf_efficientnet_lite0
tf_efficientnet_lite1 tf_efficientnet_lite2 tf_efficientnet_lite3 tf_efficientnet_lite4 tf_efficientnetv2_b0
tf_efficientnetv2_b1 tf_efficientnetv2_b2 tf_efficientnetv2_b3 efficientnetv2_s efficientnetv2_m efficientnetv2_l
efficientnetv2_rw_t efficientnetv2_rw_s tf_efficientnetv2_s tf_efficientnetv2_m tf_efficientnetv2_l mobilenetv1_100
mobilenetv1_100h mobilenetv1_125 mobilenetv2_035 mobilenetv2_050 mobilenetv2_075 mobilenetv2_100 mobilenetv2_110d
mobilenetv2_120d mobilenetv2_140 mnasnet_050 mnasnet_075 mnasnet_100 mnasnet_140 semnasnet_050 semnasnet_075
semnasnet_100 semnasnet_140 mnasnet_small spnasnet_100 fbnetc_100 mobilenetv3_large_075 mobilenetv3_large_100
mobilenetv3_small_050 mobilenetv3_small_075 mobilenetv3_small_100 tf_mobilenetv3_large_075 tf_mobilenetv3_large_100
tf_mobilenetv3_large_minimal_100 tf_mobilenetv3_small_075 tf_mobilenetv3_small_100 tf_mobilenetv3_small_minimal_100
lcnet_050 lcnet_075 lcnet_100 lcnet_150 mobilenetv4_conv_small_035 mobilenetv4_conv_small_050 mobilenetv4_conv_small
mobilenetv4_conv_medium mobilenetv4_conv_large mobilenetv4_hybrid_medium mobilenetv4_hybrid_large mixnet_s mixnet_m mixnet_l resnet26 resnet200
resnext101_32x4d resnext101_32x16d resnet50c resnet101c resnet152c resnet50s resnet101s resnet152s resnet18d resnet34d
resnet26d resnet50d resnet101d resnet152d resnet200d resnet10t resnet14t resnet26t resnet50t resnext50d_32x4d
seresnet18 seresnet34 seresnet50 seresnet101 seresnet152 seresnet152d seresnet50t seresnext50_32x4d seresnext101_32x4d
seresnext101_32x8d seresnext101_64x4d seresnext26d_32x4d seresnext26t_32x4d seresnext101d_32x8d resnetrs50 resnetrs101
resnetrs152 resnetrs200 resnetblur18 resnetblur50 resnetblur50d resnetblur101d resnetaa50 resnetaa34d resnetaa50d
resnetaa101d seresnetaa50d seresnextaa101d_32x8d skresnet18 skresnet34 skresnet50 skresnet50d skresnext50_32x4d
regnetx_002 regnetx_004 regnetx_004_tv regnetx_006 regnetx_008
regnetx_016 regnetx_032 regnetx_040 regnetx_064 regnetx_080 regnetx_120 regnetx_160 regnetx_320 regnety_002
regnety_004 regnety_006 regnety_008 regnety_008_tv regnety_016 regnety_032 regnety_040 regnety_064 regnety_080
regnety_080_tv regnety_120 regnety_160 regnety_320 timm_vgg11 timm_vgg13 timm_vgg16 timm_vgg19 timm_vgg11_bn
timm_vgg13_bn timm_vgg16_bn timm_vgg19_bn ghostnet_050 ghostnet_100 ghostnet_130 ghostnetv2_100 ghostnetv2_130
ghostnetv2_160
repghostnet_050 repghostnet_058 repghostnet_080 repghostnet_100 repghostnet_111 repghostnet_130 repghostnet_150
repghostnet_200 repvgg_a0 repvgg_a1 repvgg_a2 repvgg_b0 repvgg_b1 repvgg_b1g4 repvgg_b2 repvgg_b2g4 repvgg_b3
repvgg_b3g4 repvgg_d2se
resnext101_32x32d resnet50_gn seresnet200d seresnet269d senet154 resnetrs270 resnetrs350 resnetrs420 ecaresnetlight
ecaresnet50d ecaresnet101d ecaresnet200d ecaresnet269d ecaresnet26t ecaresnet50t ecaresnext26t_32x4d
ecaresnext50t_32x4d seresnextaa201d_32x8d efficientnet_b8 efficientnet_l2 tf_efficientnet_b8 tf_efficientnet_l2
efficientnet_es efficientnet_es_pruned efficientnet_em efficientnet_el efficientnet_el_pruned tf_efficientnet_es
tf_efficientnet_em tf_efficientnet_el tinynet_a tinynet_b tinynet_c tinynet_d tinynet_e efficientnetv2_xl
efficientnetv2_rw_m tf_efficientnetv2_xl test_efficientnet mobilenet_edgetpu_100 mobilenet_edgetpu_v2_xs
mobilenet_edgetpu_v2_s mobilenet_edgetpu_v2_m mobilenet_edgetpu_v2_l mobilenetv3_large_150d mobilenetv3_rw lcnet_035 mobilenetv4_conv_aa_medium
mobilenetv4_conv_aa_large hardcorenas_a hardcorenas_b hardcorenas_c hardcorenas_d hardcorenas_e hardcorenas_f fbnetv3_b fbnetv3_d fbnetv3_g
mixnet_xl mixnet_xxl tf_mixnet_s tf_mixnet_m tf_mixnet_l
regnety_640 regnety_1280 regnety_2560 regnetv_040 regnetv_064 regnetz_005 regnetz_040 regnetz_040_h legacy_seresnet18
legacy_seresnet34 legacy_seresnet50 legacy_seresnet101 legacy_seresnet152 legacy_seresnext26_32x4d
legacy_seresnext50_32x4d legacy_seresnext101_32x4d legacy_senet154 densenet264d densenetblur121d
""".split()

# DINOv2 with registers as its authors have it, and timm's network without.
REGISTERS = {
    "dinov2_vits14_reg": "vit_small_patch14_dinov2",
    "dinov2_vitb14_reg": "vit_base_patch14_dinov2",
    "dinov2_vitl14_reg": "vit_large_patch14_dinov2",
    "dinov2_vitg14_reg": "vit_giant_patch14_dinov2",
}

# What makes a network the one that its branches come to.
DEPLOYED = "(deploy = true)"

# Networks with arguments, and timm's model and arguments that give the same.
FORMS = {
    "vit_tiny_patch16_224(classes = 0)": ("vit_tiny_patch16_224", {"num_classes": 0}),
    "vit_tiny_patch16_224(classes = 21843)": ("vit_tiny_patch16_224", {"num_classes": 21843}),
    "vit_tiny_patch16_224(size = 160)": ("vit_tiny_patch16_224", {"img_size": 160}),
    "timm_vit([192, 12, 3, 768], 16, qkv_bias = false, qk_norm = layer_norm(eps = 1e-6))": (
        "vit_tiny_patch16_224",
        {"qkv_bias": False, "qk_norm": True},
    ),
    "timm_vit([192, 12, 3, 768], 16, mlp = swiglu(768))": (
        "vit_tiny_patch16_224",
        {"mlp_layer": timm.layers.SwiGLU, "act_layer": "silu"},
    ),
    "deit_tiny_distilled_patch16_224(classes = 0)": ("deit_tiny_distilled_patch16_224", {"num_classes": 0}),
    "beit_base_patch16_224(classes = 0)": ("beit_base_patch16_224", {"num_classes": 0}),
    "vit_base_patch32_siglip_256(classes = 10)": ("vit_base_patch32_siglip_256", {"num_classes": 10}),
    "convnext_atto(classes = 0)": ("convnext_atto", {"num_classes": 0}),
    "convnext_large_mlp(classes = 0)": ("convnext_large_mlp", {"num_classes": 0}),
    "swin_tiny_patch4_window7_224(classes = 0)": ("swin_tiny_patch4_window7_224", {"num_classes": 0}),
    "swin_tiny_patch4_window7_224(size = 160)": ("swin_tiny_patch4_window7_224", {"img_size": 160}),
    "swinv2_tiny_window8_256(size = 192)": ("swinv2_tiny_window8_256", {"img_size": 192}),
    "eva02_tiny_patch14_224(size = 252)": ("eva02_tiny_patch14_224", {"img_size": 252}),
    "vit_small_patch16_rope_mixed_224(size = 192)": ("vit_small_patch16_rope_mixed_224", {"img_size": 192}),
    "vit_tiny_patch16_dinov3_qkvb(classes = 10, size = 208)": (
        "vit_tiny_patch16_dinov3_qkvb",
        {"num_classes": 10, "img_size": 208},
    ),
    "test_vit_relpos(size = 192)": ("test_vit_relpos", {"img_size": 192}),
    "test_maxvit(size = 192)": ("test_maxvit", {"img_size": 192}),
}

HEADS = [f"{name}(aux = true)" for name in HEADED]
NETWORKS = [*TORCHVISION, *SEGMENTATION, *HEADS, *CONVOLUTIONAL, f"repvgg_a2{DEPLOYED}", *TIMM, *REGISTERS, *FORMS]

# Buffers that archc computes: a file may hold them, and none must.
COMPUTED = ("num_batches_tracked", "relative_position_index", "relative_coords_table")


def timms(name):
    """timm's name of a network, and arguments."""
    name = name.removesuffix(DEPLOYED)
    # timm has the eps of the published weights only where it loads them
    extra = {"bn_eps": 1e-3} if name == "fbnetc_100" else {}
    return FORMS.get(name) or (REGISTERS.get(name, name).removeprefix("timm_"), extra)


def with_registers(module):
    """Four registers that join when positions are added, as in the authors' `prepare_tokens_with_masks`."""
    module.register_tokens = torch.nn.Parameter(torch.zeros(1, 4, module.embed_dim))
    torch.nn.init.normal_(module.register_tokens, std=0.02)

    def tokens(x):
        x = torch.cat([module.cls_token.expand(x.shape[0], -1, -1), x], 1) + module.pos_embed
        return torch.cat([x[:, :1], module.register_tokens.expand(x.shape[0], -1, -1), x[:, 1:]], 1)

    module._pos_embed = tokens
    return module


def torchvisions(name):
    """torchvision's name of a network, None where it is timm's, and whether it has the heads beside its own."""
    bare = name.removesuffix("(aux = true)")
    return bare if bare in TORCHVISION + SEGMENTATION else None, bare != name


def make(name):
    """The PyTorch module of a zoo network, in evaluation mode."""
    model, headed = torchvisions(name)
    if model is None:
        model, extra = timms(name)
        module = timm.create_model(model, pretrained=False, **extra).eval()
        if name in REGISTERS:
            return with_registers(module)
        return reparameterize_model(module) if name.endswith(DEPLOYED) else module
    extra = {}
    if model in ("googlenet", "inception_v3"):
        extra = {"aux_logits": headed, "transform_input": False, "init_weights": False}
    if model in SEGMENTATION:
        extra = {"weights_backbone": None} | ({"aux_loss": True} if headed else {})
    module = torchvision.models.get_model(model, weights=None, **extra).eval()
    # these run their heads in training alone, of which the module itself decides; its parts stay in evaluation mode
    module.training = headed and model in ("googlenet", "inception_v3")
    return module


def outputs(y):
    """What a module gives, by the names that archc's outputs have."""
    if isinstance(y, torch.Tensor):
        return {"output": y}
    ours = {"out": "output", "logits": "output", "aux_logits": "aux", "aux_logits1": "aux1", "aux_logits2": "aux2"}
    given = y if isinstance(y, dict) else y._asdict()
    return {ours.get(name, name): value for name, value in given.items()}


def preprocess(name):
    """What a picture goes through before the network, with transform_input's part in mean and std."""
    bare, _ = torchvisions(name)
    if bare is None:
        model, extra = timms(name)
        cfg = timm.models.get_pretrained_cfg(model)
        assert cfg.crop_mode in ("center", "squash"), f"{name} is given pictures in another way"
        sides = [extra["img_size"]] * 2 if "img_size" in extra else list(cfg.input_size[1:])
        resize = [int(side / cfg.crop_pct) for side in sides]
        return {
            "resize": resize if cfg.crop_mode == "squash" else resize[0],
            "crop": sides[0] if sides[0] == sides[1] else sides,
            "interpolation": cfg.interpolation,
            "mean": list(cfg.mean),
            "std": list(cfg.std),
        }
    t = published(bare).transforms()
    mean, std = list(t.mean), list(t.std)
    if bare in ("googlenet", "inception_v3"):
        # transform_input maps y = (x - mean) / std to (y * std + mean - 0.5) / 0.5
        mean, std = [0.5] * 3, [0.5] * 3
    return {
        "resize": t.resize_size[0],
        "crop": 520 if bare in SEGMENTATION else t.crop_size[0],
        "interpolation": t.interpolation.value,
        "mean": mean,
        "std": std,
    }


def published(name):
    """torchvision's first weights of a network, or those for its own size, for their metadata."""
    weights = torchvision.models.get_model_weights(name)
    return weights["IMAGENET1K_SWAG_LINEAR_V1"] if name == "vit_h_14" else next(iter(weights))


def noise(name, batch=1, seed=0, size=None):
    """Seeded input of the size that a network declares, or of another."""
    size = size or preprocess(name)["crop"]
    sides = size if isinstance(size, list) else [size, size]
    return torch.randn(batch, 3, *sides, generator=torch.Generator().manual_seed(seed))


def write(path, table):
    """The table of networks as a file, a row a line, in their order."""
    rows = (f"{json.dumps(n)}: {json.dumps(table[n])}" for n in NETWORKS if n in table)
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def file_name(name):
    """A network's name, which may have arguments, as the name of a file."""
    return re.sub(r"\W+", "_", name).strip("_")


def listing(state):
    """`key shape` lines of a state dict in order of key, without what archc computes."""
    keys = sorted(k for k in state if not k.endswith(COMPUTED))
    return "".join(f"{k} {'x'.join(map(str, state[k].shape)) or '1'}\n" for k in keys)
