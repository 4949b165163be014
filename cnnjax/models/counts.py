"""Parameters and multiply-adds of every model at its published input, so that `cnnjax models` need not trace them all.

They are what `cnnjax.summarize(name)` finds; a test compares.
"""

from collections.abc import Mapping

COUNTS: Mapping[str, tuple[int, int]] = {
    "alexnet": (60_965_224, 724_406_816),
    "alexnet_torchvision": (61_100_840, 714_188_480),
    "cnn_8_16_32": (21_634, 523_712),
    "cnn_small": (1_199_882, 11_992_448),
    "googlenet": (6_998_552, 1_582_671_872),
    "googlenet_torchvision": (6_624_904, 1_498_376_192),
    "lenet5": (61_706, 416_520),
    "lenet5_1998": (60_000, 415_680),
    "lenet5_bn": (61_932, 416_520),
    "lenet_signs": (56_195, 645_960),
    "lenet_signs_double": (213_147, 1_867_920),
    "maxdrop_cnn": (7_640_394, 284_890_112),
    "mlp": (636_010, 635_200),
    "pattern": (591_274, 25_003_264),
    "resnet101": (44_549_160, 7_570_194_432),
    "resnet101_torchvision": (44_549_160, 7_801_405_440),
    "resnet110": (1_727_962, 252_887_680),
    "resnet152": (60_192_808, 11_282_415_616),
    "resnet152_torchvision": (60_192_808, 11_513_626_624),
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet20": (269_722, 40_551_040),
    "resnet32": (464_154, 68_862_592),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnet44": (658_586, 97_174_144),
    "resnet50": (25_557_032, 3_857_973_248),
    "resnet50_torchvision": (25_557_032, 4_089_184_256),
    "resnet56": (853_018, 125_485_696),
    "vgg11": (132_863_336, 7_609_090_048),
    "vgg11_bn": (132_868_840, 7_609_090_048),
    "vgg13": (133_047_848, 11_308_466_176),
    "vgg13_bn": (133_053_736, 11_308_466_176),
    "vgg16": (138_357_544, 15_470_264_320),
    "vgg16_bn": (138_365_992, 15_470_264_320),
    "vgg19": (143_667_240, 19_632_062_464),
    "vgg19_bn": (143_678_248, 19_632_062_464),
}
