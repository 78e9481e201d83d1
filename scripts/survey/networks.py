"""The networks of scripts/survey.py.

`SMALLEST` has the smallest network with BatchNorms of each module of timm 1.0.31 (made for tests, and under old names,
ones left out), `TORCHVISION` the smallest of each family of classification, video and segmentation networks; with them
go those of scripts/fold_zoo.py.
"""

from __future__ import annotations

from common.networks import TIMM

__all__ = ["NETWORKS"]

SMALLEST = (
    "convmixer_768_32", "cpubone_nano", "cs3darknet_focus_s", "cspnext_tiny", "densenet121", "dla46x_c", "dpn48b",
    "efficientformer_l1", "efficientformerv2_s0", "efficientvim_m1", "efficientvit_b0", "efficientvit_m0",
    "ese_vovnet19b_slim_dw", "fasternet_t0", "fastvit_t8", "ghostnet_050", "halonet_h1", "hardcorenas_b",
    "hgnetv2_b0", "hrnet_w18_small", "iformer_t", "inception_next_atto", "inception_resnet_v2", "inception_v3",
    "inception_v4", "lcnetv2_small", "legacy_seresnet18", "legacy_xception", "levit_128s", "lowformer_b0",
    "maxvit_pico_rw_256", "mobilenetv2_035", "mobilenetv3_small_050", "mobileone_s1", "mobilevit_xxs",
    "nasnetalarge", "nextvit_small", "pnasnet5large", "regnetx_002", "repghostnet_050", "repvit_m1", "res2next50",
    "resnest14d", "resnet10t", "resnetv2_18", "rexnet_100", "selecsls42", "shvit_s1", "skresnet18", "starnet_s050",
    "swiftformer_xs", "tiny_vit_5m_224", "tresnet_m", "vgg11_bn", "visformer_tiny", "vit_small_resnet50d_s16_224",
    "volo_d1_224", "xception41p", "xcit_nano_12_p8_224",
)  # fmt: skip
TORCHVISION = (
    "deeplabv3_mobilenet_v3_large", "densenet121", "efficientnet_b0", "fcn_resnet50", "googlenet", "inception_v3",
    "lraspp_mobilenet_v3_large", "mc3_18", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "r2plus1d_18",
    "r3d_18", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "s3d", "shufflenet_v2_x0_5", "vgg11_bn",
)  # fmt: skip
NETWORKS = (*(f"timm:{name}" for name in sorted({*SMALLEST, *TIMM})), *(f"torchvision:{name}" for name in TORCHVISION))
