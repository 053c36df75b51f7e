r"""Train the bundled tiny DINO: a self-supervised vision transformer on procedural films, without names and masks.

    python tools/pretrain/train_tiny_dino.py --work-dir work_dirs/tiny_dino      # the same command goes on
    python tools/pretrain/train_tiny_dino.py --work-dir work_dirs/tiny_dino \
        --export weclip_sam/foundation/weights/tiny_dino
    python tools/pretrain/train_tiny_dino.py --gate-clip                         # what the tiny CLIP's tokens know

A film is a few frames of the same individuals, elsewhere and before another background; the network learns which views
are of one film (``dino_training.py``). Films are drawn as training goes, from seeds of their own; what an iteration
sees follows from its number, so a run that is killed and resumed ends with the very same weights. Every
``--gate-every`` iterations a linear probe and nearest neighbours on *tune* scenes tell what the patch tokens know
(``token_gate.py``); the weights never see a tune scene.

On a CPU, keeping freed memory saves time: MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=8000000000.
"""
from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from dino_training import Learner, patch_film_loss, same_film_loss
from films import CHUNK, FRAMES, SIDE, STREAM, Films, draw_patches, draw_views
from safetensors.torch import load_file, save_file
from token_gate import gate
from torch import Tensor

from weclip_sam.api import choose_device
from weclip_sam.engine import friendly_errors, prepare_work_dir
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.io.files import atomic_open
from weclip_sam.io.text import read_json

CARD = dict(img_size=112, patch_size=7, embed_dim=128, depth=6, num_heads=4, num_classes=0, dynamic_img_size=True)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENLARGED = (1, 1.5)  # at which sizes of the images the gate of an export is measured
SMALL, WHOLE_FROM, TEMPERATURE, TELLING = 70, 0.92, 0.15, 0.4


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/tiny_dino'),
                        help='checkpoint and log (default: %(default)s)')
    parser.add_argument('--iterations', type=int, default=5500,
                        help='in all; the learning rate falls in the last quarter (default: %(default)s)')
    parser.add_argument('--stop-at', type=int, help='stop after this iteration, with a checkpoint (default: go on)')
    parser.add_argument('--hours', type=float, default=float('inf'),
                        help='stop after so long, with a checkpoint (default: no limit)')
    parser.add_argument('--batch', type=int, default=32,
                        help=f'films per iteration, of {FRAMES} frames each (default: %(default)s)')
    parser.add_argument('--visits', type=int, default=8,
                        help=f'how often each chunk of {CHUNK} films is seen before new ones (default: %(default)s)')
    parser.add_argument('--lr', type=float, default=3e-3, help='peak learning rate (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of weights, films and views (default: %(default)s)')
    parser.add_argument('--start', type=Path, metavar='PREFIX',
                        help='begin with the network of an export, its heads new; give another --seed for other films')
    parser.add_argument('--save-every', type=int, default=100,
                        help='iterations between checkpoints (default: %(default)s)')
    parser.add_argument('--gate-every', type=int, default=500,
                        help='iterations between gates; 0 for none (default: %(default)s)')
    parser.add_argument('--device', default='cpu', help='(default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1,
                        help='CPU threads; 0 leaves the choice to torch (default: %(default)s)')
    parser.add_argument('--note', default='', help='kept in the card of an export')
    parser.add_argument('--export', type=Path, help='write PREFIX.safetensors and PREFIX.json, and stop')
    parser.add_argument('--gate-clip', action='store_true', help='print the gate of the tiny CLIP, and stop')
    return parser.parse_args(argv)


def view_size(iteration: int, total: int) -> tuple[int, float]:
    """Pixels of the views, and the share of their patches that is read: small and half, whole near the end."""
    return (SIDE, 1.0) if iteration >= WHOLE_FROM * total else (SMALL, 0.5)


def learning_rate(iteration: int, total: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, flat, and a straight fall to 1 % over the last quarter."""
    left = (total - iteration) / max(1, total / 4)
    return peak * min(1.0, (iteration + 1) / warmup, 0.01 + 0.99 * left)


class Trainer:
    """Network and optimizers: all that a checkpoint holds."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.args = args
        self.learner = Learner(CARD).to(args.device)
        matrices = {id(p): p for p in self.learner.vit.blocks.parameters() if p.ndim == 2}
        others = [p for p in self.learner.parameters() if id(p) not in matrices]
        decay, rest = [p for p in others if p.ndim >= 2], [p for p in others if p.ndim < 2]
        self.optimizers = [
            torch.optim.Muon(list(matrices.values()), lr=args.lr, weight_decay=0.05, adjust_lr_fn='match_rms_adamw'),
            torch.optim.AdamW([dict(params=decay, weight_decay=0.05), dict(params=rest, weight_decay=0.0)], lr=args.lr,
                              betas=(0.9, 0.98))]
        self.iteration, self.seconds, self.before = 0, 0.0, {}
        if args.start is not None:
            self.before = self.start(args.start)
        self.films = Films(args.seed, args.batch, args.visits, CHUNK)

    def start(self, prefix: Path) -> dict:
        """Take the network of an export; how that was trained.

        Raises:
            FileNotFoundError: there is no such export.
            ValueError: it is none of this trainer, or its network has other sizes.
        """
        card, weights = Path(f'{prefix}.json'), Path(f'{prefix}.safetensors')
        if missing := [str(path) for path in (card, weights) if not path.is_file()]:
            raise FileNotFoundError(f'--start {prefix}: there is no {" and no ".join(missing)}; expected '
                                    'what --export was given, a path without suffix')
        content = read_json(card, 'DINO card')
        if 'card' not in content:
            raise ValueError(f'--start {prefix}: {card} is no card of this trainer, which has the entry "card"')
        if content['card'] != CARD:
            raise ValueError(f'--start {prefix}: its network has other sizes: {content["card"]}, expected {CARD}')
        self.learner.vit.load_state_dict(load_file(weights))
        return content.get('training', {})

    def state(self) -> dict:
        return dict(learner=self.learner.state_dict(), optimizers=[o.state_dict() for o in self.optimizers],
                    iteration=self.iteration, seconds=self.seconds, before=self.before, settings=settings(self.args),
                    hardware=hardware(self.args.device))

    def load(self, state: dict) -> None:
        """Go on from a state.

        Raises:
            ValueError: it was trained with other settings, or by an earlier trainer.
        """
        if other := [f'--{name} {value}' for name, value in known_settings(state, self.args).items()
                     if settings(self.args).get(name) != value]:
            raise ValueError(f'{self.args.work_dir}: was trained with {" ".join(other)}; give the same, or another '
                             '--work-dir')
        self.learner.load_state_dict(state['learner'])
        for optimizer, saved in zip(self.optimizers, state['optimizers'], strict=True):
            optimizer.load_state_dict(saved)
        self.iteration, self.seconds, self.before = state['iteration'], state['seconds'], state['before']

    def step(self) -> dict[str, float]:
        """One iteration; its statistics."""
        args, began = self.args, time.time()
        rng = np.random.default_rng([STREAM, args.seed, 2, self.iteration])
        frames = self.films(self.iteration).swapaxes(0, 1)
        size, share = view_size(self.iteration, args.iterations)
        views = draw_views(frames.reshape(-1, *frames.shape[2:]), size, (0.5, 1.0), rng)
        patches, generator = (size // CARD['patch_size']) ** 2, torch.Generator().manual_seed(int(rng.integers(2**62)))
        keep = None if share == 1 else draw_patches(len(views), patches, share, generator).to(args.device)
        rate = learning_rate(self.iteration, args.iterations, args.lr)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group['lr'] = rate
        with torch.autocast(torch.device(args.device).type, torch.bfloat16):
            whole, parts = self.learner(normalise(views, args.device), keep)
        whole, parts = (x.unflatten(0, frames.shape[:2]) for x in (whole, parts))
        image_loss, image_hit = same_film_loss(whole, TEMPERATURE)
        patch_loss, patch_hit = patch_film_loss(parts, whole, TEMPERATURE, TELLING)
        loss = image_loss + patch_loss
        if not torch.isfinite(loss):
            raise FloatingPointError(f'loss is {loss.item()} at iteration {self.iteration}: lower --lr')
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.learner.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.iteration += 1
        self.seconds += time.time() - began
        return dict(image_loss=image_loss.item(), patch_loss=patch_loss.item(), image_hit=image_hit.item(),
                    patch_hit=patch_hit.item())


def normalise(images: Tensor, device: str) -> Tensor:
    """N 3 H W in 0..255 as the network wants them."""
    mean, std = (255 * torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (images.to(device).float() - mean) / std


def gate_of(learner: Learner, device: str, enlarge: float = 1.0) -> dict[str, float]:
    """What the patch tokens of enlarged images know, and how far they spread (0: they have collapsed)."""
    vit, spread = learner.vit, []

    def tokens(images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        images = enlarged(images, enlarge)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            x = vit.forward_features(normalise(images, device))[:, vit.num_prefix_tokens:].float()
        spread.append(F.normalize(x, dim=-1).flatten(0, 1).std(0).norm().item())
        grid = tuple(side // CARD['patch_size'] for side in images.shape[2:])
        return x.cpu(), grid

    return dict(**gate(tokens), spread=round(float(np.mean(spread)), 4))


def enlarged(images: Tensor, factor: float) -> Tensor:
    """N 3 H W in 0..255, resized (bilinear) unless the factor is 1."""
    if factor == 1:
        return images
    return F.interpolate(images.float(), scale_factor=factor, mode='bilinear', align_corners=False)


def settings(args: argparse.Namespace) -> dict[str, float | str]:
    """What decides the weights, by the names of the options."""
    values = {name: getattr(args, name) for name in ('iterations', 'batch', 'visits', 'lr', 'seed')}
    return values if args.start is None else {**values, 'start': str(args.start)}


def known_settings(state: dict, args: argparse.Namespace) -> dict:
    """The settings that a checkpoint was trained with.

    Raises:
        ValueError: it is of an earlier trainer.
    """
    if 'settings' not in state:
        raise ValueError(f'{args.work_dir}: its checkpoint is of an earlier trainer, with another network and other '
                         'losses; give another --work-dir')
    return state['settings']


def hardware(device: str) -> str:
    """The processor, the threads and the accelerator of a run."""
    return f'{platform.machine()}, {torch.get_num_threads()} threads, {device}'


def log(folder: Path, name: str, row: dict) -> None:
    print(name, json.dumps(row), flush=True)
    with open(folder / f'{name}.jsonl', 'a', encoding='utf-8') as file:
        file.write(json.dumps(row) + '\n')


def save(path: Path, state: dict) -> None:
    with atomic_open(path) as file:
        torch.save(state, file)


def train(args: argparse.Namespace, checkpoint: Path) -> None:
    """Train from the start, or go on from ``checkpoint``."""
    for name, value in (('batch', args.batch), ('visits', args.visits), ('save-every', args.save_every),
                        ('iterations', args.iterations)):
        if value < 1:
            raise ValueError(f'--{name} {value}: expected at least 1')
    if args.batch > CHUNK:
        raise ValueError(f'--batch {args.batch}: expected at most {CHUNK} films')
    choose_device(args.device)
    torch.set_flush_denormal(True)
    cv2.setNumThreads(1)
    trainer, stop = Trainer(args), time.time() + 3600 * args.hours
    last = args.iterations if args.stop_at is None else min(args.iterations, args.stop_at)
    prepare_work_dir(args.work_dir)
    if checkpoint.is_file():
        trainer.load(torch.load(checkpoint, map_location=args.device, weights_only=True))
    print(f'iteration {trainer.iteration} of {args.iterations}; a line every 20', flush=True)
    totals: dict[str, float] = {}
    while trainer.iteration < last and time.time() < stop:
        for name, value in trainer.step().items():
            totals[name] = totals.get(name, 0.0) + value / 20
        at = trainer.iteration
        if at % 20 == 0:
            log(args.work_dir, 'train', dict(iteration=at, samples=at * args.batch * FRAMES,
                                             seconds=round(trainer.seconds),
                                             **{name: round(value, 4) for name, value in totals.items()}))
            totals = {}
        if at % args.save_every == 0:
            save(checkpoint, trainer.state())
        if args.gate_every and at % args.gate_every == 0:
            log(args.work_dir, 'gate', dict(iteration=at, seconds=round(trainer.seconds),
                                            **gate_of(trainer.learner, args.device)))
    save(checkpoint, trainer.state())


def export(prefix: Path, state: dict, args: argparse.Namespace) -> None:
    """The network as fp16 safetensors in timm's names, and its card."""
    if prefix.is_dir():
        raise ValueError(f'--export {prefix}: is a folder; expected a path without suffix, such as {prefix}/tiny_dino')
    made, learner = known_settings(state, args), Learner(CARD).to(args.device)
    weights = {name.removeprefix('vit.'): value.half().contiguous() for name, value in state['learner'].items()
               if name.startswith('vit.')}
    learner.vit.load_state_dict({name: value.float() for name, value in weights.items()})
    print('what the tokens know is measured first, which takes some minutes', flush=True)
    metrics = {f'images x {factor:g}': gate_of(learner, args.device, factor) for factor in ENLARGED}
    options = ' '.join(f'--{name} {value}' for name, value in made.items())
    card = dict(card=CARD, mean=MEAN, std=STD, training=dict(
        command=f'python tools/pretrain/train_tiny_dino.py {options}', seed=made['seed'], iterations=state['iteration'],
        samples_seen=state['iteration'] * made['batch'] * FRAMES, wall_time_seconds=round(state['seconds']),
        hardware=state['hardware'], torch=torch.__version__, note=args.note,
        **({'before': state['before']} if state['before'] else {})), metrics=metrics)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, f'{prefix}.tmp', metadata={'format': 'pt'})
    os.replace(f'{prefix}.tmp', f'{prefix}.safetensors')
    with atomic_open(f'{prefix}.json', 'w') as file:
        file.write(json.dumps(card, indent=2) + '\n')
    print(json.dumps(card, indent=2))


def gate_clip() -> None:
    """The gate of every block of the tiny CLIP, at each size of the images, one line each."""
    clip = FrozenClip('tiny', 'tiny')
    for block, factor in itertools.product(range(clip.layers), ENLARGED):
        def tokens(images: Tensor, block: int = block, factor: float = factor) -> tuple[Tensor, tuple[int, int]]:
            features = clip(enlarged(images, factor))
            return features.tokens[block][:, 1:], features.grid
        print(json.dumps(dict(block=block, enlarged=factor, **gate(tokens))), flush=True)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with friendly_errors(on_stop=lambda: 'The same command goes on.'):
        checkpoint = args.work_dir / 'last.pth'
        if args.threads > 0:
            torch.set_num_threads(args.threads)
        if args.gate_clip:
            gate_clip()
        elif not args.export:
            train(args, checkpoint)
        elif checkpoint.is_file():
            export(args.export, torch.load(checkpoint, weights_only=True, map_location='cpu'), args)
        else:
            raise FileNotFoundError(f'{checkpoint}: no checkpoint to export; train first (the same command without '
                                    '--export), or name the --work-dir of a training run')


if __name__ == '__main__':
    main()
