"""What settings and options may be, for command lines as for what checks them: nothing here waits for torch."""
from __future__ import annotations

# How the processes of a run were started.
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
# By the word, which is the package's name, too: the backend of mmengine's visualizer that has a training watched.
TRACKERS = {'wandb': 'WandbTracker', 'mlflow': 'MlflowTracker', 'tensorboard': 'TensorboardVisBackend'}
# The splits of a config, and where their data sets stand in it.
SPLITS = {'train': 'train_dataloader.dataset', 'val': 'val_dataloader.dataset', 'tune': 'tune_dataset'}
# Who takes part in CLIP's softmax: the classes named for the image, or all, with or without the background nouns.
COMPETITORS = ('present', 'all', 'present_foreground')
# Forms of labels: those that they are exported in, and those that corrected ones are read in.
EXPORTS = ('coco', 'yolo-seg', 'yolo-semantic', 'voc', 'cvat', 'label-studio', 'fiftyone')
CORRECTIONS = ('auto', 'coco', 'cvat', 'voc', 'label-studio')
# What comes first on a review page.
ORDERS = {'worst': 'worst first', 'confidence': 'least sure first', 'doubts': 'most disagreement first',
          'names': 'names most contradicted first'}
# Architectures of SAM, by which ``--sam`` calls one, and what its files end in.
SAMS = ('tiny', 'vit_b', 'vit_l', 'vit_h')
SAM_FILES = ('.pth', '.pt', '.safetensors')
CHECKPOINTS = 'checkpoints'  # folder below the current one, where published checkpoints are looked for first
