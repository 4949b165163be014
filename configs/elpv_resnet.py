"""A small residual network on photographs of solar cells: functional or defective (`pip install 'cnnjax[elpv]'`).

    cnnjax train --config configs/elpv_resnet.py

The network is ResNet-18 with one block per stage and a quarter of the feature maps (308,146 parameters), trained from random weights
on cells of 96x96 pixels and their mirror images.

Result for seeds 0 to 4, each tested once, on 26 November 2026, with 2 cores of an AMD EPYC beside much other work (4 to 6 minutes
each). The intervals are 95 % intervals of the mean over seeds; one of 656 test cells is 0.15 points.

    accuracy                      0.8244 ± 0.0050 [0.8182, 0.8306]
    balanced accuracy             0.7693 ± 0.0054 [0.7627, 0.7760]
    macro F1                      0.7833 ± 0.0057 [0.7763, 0.7904]
    defective cells               recall 0.622, precision 0.772
    accuracy by kind of cell      monocrystalline 0.856, polycrystalline 0.803
    cells with sure labels        accuracy 0.841
    ensemble of the five          accuracy 0.834

These commands reproduce the accuracies and the scores by class from which the rest is averaged:

    cnnjax ablate --config configs/elpv_resnet.py --vary loss.class_weights=none --seeds 5 --workdir runs/elpv
    cnnjax evaluate --details --workdir runs/elpv/TRIAL

31 % of the cells are defective. Two ways of balancing the classes, measured on the validation split (263 cells) with one seed each:

    training                                   accuracy   balanced accuracy   macro F1   recall of defective cells
    this config                                   0.852               0.792      0.813                       0.634
    loss.class_weights="balanced"                 0.825               0.796      0.796                       0.720
    dataset.balanced=True                         0.798               0.774      0.769                       0.707

Class weights trade precision for recall; by balanced accuracy one seed does not distinguish them from no weights. Use them if a missed
defect costs more than a false alarm.

Published (Deitsch et al., Solar Energy 185, 2019, arXiv:1807.02894): accuracy 88.42 % with a CNN, 82.44 % with an SVM on handcrafted
features. These are not the same measurement:
- their CNN is a VGG-19 that starts from ImageNet weights, on 300x300 pixels, and is trained to predict the probability of a defect;
- they train on 1,968 cells, this config on 1,705, with 263 held out for validation;
- their split is not published (this one has as many test cells, with equal shares of type and probability);
- they count cells with a defect probability of 1/3 as defective and weight unsure cells by their probability; here these cells are
  functional, and all cells have the same weight. With their weights and labels the same predictions have an accuracy of 0.795, but
  the networks were trained on the other labels.
"""


def get_config():
    return {
        "dataset": {"name": "elpv", "resize": (96, 96)},
        "augment": {"flip_horizontal": True, "flip_vertical": True},
        "model": {"name": "resnet18", "stages": (1, 1, 1, 1), "features": 16},
        "optimizer": {"learning_rate": 0.05, "weight_decay": 5e-4},
        "schedule": {"name": "cosine", "warmup_epochs": 1.0},
        "train": {"batch_size": 32, "epochs": 30},
        "evaluate": {"checkpoint": "last"},  # 263 validation images are too few to select an epoch
    }
