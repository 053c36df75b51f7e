"""Train the bundled tiny SAM on point prompts over procedural scenes.

    python tools/pretrain/train_tiny_sam.py --bf16 --resume --out weclip_sam/foundation/weights/tiny_sam.safetensors
    python tools/pretrain/train_tiny_sam.py --eval-only --out weclip_sam/foundation/weights/tiny_sam.safetensors

SAM sees pixels, points and outlines, never a class name. Every iteration draws its own scenes from (seed, iteration),
so a run that is killed and resumed ends with the very same weights. Scenes of training and evaluation come from seed
sequences of their own, disjoint from each other and from those of the ``shapes`` data set.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from safetensors.torch import load_file, save_file
from sam_training import DenseHead, PromptBatch, mask_iou, prompt_loss

from weclip_sam.api import choose_device
from weclip_sam.datasets.shapes.scenes import DATA_SET_SCENES, Scene, render_scene
from weclip_sam.engine import friendly_errors, prepare_work_dir
from weclip_sam.foundation.mask_generator import MaskGenerator
from weclip_sam.foundation.sam import FrozenSam, build_sam, load_card

TINY_CARD = dict(image_size=112, patch_size=8, embed_dim=128, depth=4, num_heads=4, window_size=7,
                 global_attn_indexes=[1, 3], prompt_dim=96, decoder_depth=2, decoder_heads=4, decoder_mlp_dim=256,
                 iou_head_depth=3, iou_head_hidden_dim=96)
# First words of the seed sequences: no other part of the project uses them.
TRAIN_STREAM, EVAL_STREAM = 0x5A_4D_01, 0x5A_4D_02
EVAL_SEED = 1  # the settings of the generator were chosen on scenes of seed 0
# The generator as the embedded default uses it.
SETTINGS = Config.fromfile(Path(__file__).parents[2] / 'configs/_base_/models/tiny_sam.py').mask_generator.to_dict()
GENERATOR = {name: value for name, value in SETTINGS.items() if name not in ('type', 'sam')}


# Scenes to prompts ---------------------------------------------------------------------------------------------------

def hierarchy(scene: Scene) -> list[tuple[np.ndarray, np.ndarray]]:
    """(whole, part) for everything a point may hit: each part of each object, clutter, the background."""
    pairs = [(instance.mask, mask) for instance in scene.instances for _, mask in instance.parts if mask.any()]
    pairs += [(mask, mask) for mask in scene.regions]
    covered = np.any([whole for whole, _ in pairs], axis=0) if pairs else np.zeros(scene.image.shape[:2], bool)
    return pairs if covered.all() else [*pairs, (~covered, ~covered)]


def piece_at(mask: np.ndarray, x: int, y: int) -> np.ndarray:
    """The connected piece of ``mask`` under the point."""
    labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1]
    return labels == labels[y, x]


def prompts_of(scene: Scene, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points count 2 (x, y) and targets count 3 S S bool (sub-part, part, whole).

    Things are drawn evenly and small parts so get their share of points, except that an object counts double.
    """
    pairs = hierarchy(scene)
    weight = np.array([2.0 if whole is not part else 1.0 for whole, part in pairs])
    points, targets = np.zeros((count, 2), np.float32), np.zeros((count, 3, *scene.image.shape[:2]), bool)
    for k, choice in enumerate(rng.choice(len(pairs), count, p=weight / weight.sum())):
        whole, part = pairs[choice]
        y, x = divmod(int(rng.choice(np.flatnonzero(part))), part.shape[1])
        points[k], targets[k] = (x, y), (piece_at(part, x, y), part, whole)
    return points, targets


def dense_targets(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """What each pixel is (S S int64) and where its object's centre lies (2 S S float32); see ``PromptBatch``."""
    size = scene.image.shape[0]
    kinds, offsets = np.zeros((size, size), np.int64), np.zeros((2, size, size), np.float32)
    for mask in scene.regions:
        kinds[mask] = 1
    for instance in scene.instances:
        kinds[instance.mask] = 2
        kinds[instance.parts[-1][1]] = 3
        y, x = np.nonzero(instance.mask)
        offsets[:, y, x] = (x.mean() - x) / size, (y.mean() - y) / size
    return kinds, offsets


def training_batch(seed: int, iteration: int, images: int, points: int, size: int) -> PromptBatch:
    """The scenes and prompts of one iteration, a pure function of the arguments."""
    rows: list[tuple[np.ndarray, ...]] = []
    for k in range(images):
        rng = np.random.default_rng([TRAIN_STREAM, seed, iteration, k])
        # More neighbours than the data set has: keeping them apart is what is learnt last.
        scene = render_scene(rng, size, scale=(0.4, 0.98), counts=(0.35, 0.42, 0.23), spread=rng.uniform(0.04, 0.08),
                             shrink=(1.0, rng.uniform(0.6, 0.82), rng.uniform(0.48, 0.72)))
        rows.append((scene.image, *prompts_of(scene, points, rng), *dense_targets(scene)))
    pixels, where, wanted, kinds, offsets = zip(*rows, strict=True)
    return PromptBatch(
        images=torch.from_numpy(np.stack(pixels)), index=torch.arange(images).repeat_interleave(points),
        points=torch.from_numpy(np.concatenate(where)), targets=torch.from_numpy(np.concatenate(wanted)),
        kinds=torch.from_numpy(np.stack(kinds)), offsets=torch.from_numpy(np.stack(offsets)))


# Training ------------------------------------------------------------------------------------------------------------

def learning_rate(iteration: int, total: int, peak: float, warmup: int = 200) -> float:
    """Linear warm-up, then cosine to 1 % of the peak."""
    if iteration < warmup:
        return peak * (iteration + 1) / warmup
    progress = (iteration - warmup) / max(1, total - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def atomically(path: Path, write) -> None:
    """Write to a neighbour, then rename, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    write(temporary)
    temporary.chmod(0o644)
    os.replace(temporary, path)


def optimizers(sam: torch.nn.Module, dense: torch.nn.Module, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformers, AdamW for all else; one learning rate serves both.

    From the same weights and scenes, 50 iterations took the loss to 1.37 with Muon and to 1.45 with AdamW alone.
    """
    matrices = {id(layer.weight): layer.weight for layer in sam.modules() if isinstance(layer, torch.nn.Linear)}
    others = [p for p in [*sam.parameters(), *dense.parameters()] if id(p) not in matrices]
    return [torch.optim.Muon(list(matrices.values()), lr=args.lr, weight_decay=args.weight_decay,
                             adjust_lr_fn='match_rms_adamw'),
            torch.optim.AdamW(others, lr=args.lr, weight_decay=args.weight_decay, betas=(0.9, 0.98))]


class Trainer:
    """Model, auxiliary head, optimizer, running average of the weights: all that a checkpoint holds."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.args, self.card = args, load_card(args.card)
        self.sam = build_sam(self.card).to(args.device).train()
        if args.init is not None:
            self.sam.load_state_dict({name: value.float() for name, value in load_file(args.init).items()})
        self.dense = DenseHead(self.card.prompt_dim).to(args.device)
        self.average = {name: value.detach().clone() for name, value in self.sam.state_dict().items()}
        self.parameters = [*self.sam.parameters(), *self.dense.parameters()]
        self.optimizers = optimizers(self.sam, self.dense, args)
        self.iteration, self.seconds = 0, 0.0
        self.checkpoint = args.work_dir / 'last.pth'

    def save(self) -> None:
        state = dict(model=self.sam.state_dict(), dense=self.dense.state_dict(), average=self.average,
                     optimizers=[o.state_dict() for o in self.optimizers],
                     iteration=self.iteration, seconds=self.seconds,
                     card=self.card.to_dict(), command=self.args.command)
        atomically(self.checkpoint, lambda path: torch.save(state, path))

    def load(self) -> None:
        """Go on from the checkpoint; scenes follow from the iteration, so there is no other state."""
        state = torch.load(self.checkpoint, map_location=self.args.device, weights_only=True)
        if state['card'] != self.card.to_dict():
            raise ValueError(f'{self.checkpoint} was made with another card; use another --work-dir or drop --resume')
        self.sam.load_state_dict(state['model'])
        self.dense.load_state_dict(state['dense'])
        for optimizer, saved in zip(self.optimizers, state['optimizers'], strict=True):
            optimizer.load_state_dict(saved)
        self.average, self.iteration, self.seconds = state['average'], state['iteration'], state['seconds']

    def step(self) -> dict[str, float]:
        """One iteration; returns its statistics."""
        args, started = self.args, time.time()
        batch = training_batch(args.seed, self.iteration, args.images, args.points, self.card.image_size)
        batch = batch.to(args.device)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group['lr'] = learning_rate(self.iteration, args.iterations, args.lr, args.warmup)
            optimizer.zero_grad()
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.bf16):
            loss, stats = prompt_loss(self.sam, batch, self.dense)
        if not torch.isfinite(loss):
            raise FloatingPointError(f'loss is {loss.item()} at iteration {self.iteration}: lower --lr')
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(args.average, (self.iteration + 1) / (self.iteration + 10))
        for name, value in self.sam.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)
        self.iteration += 1
        self.seconds += time.time() - started
        return {name: value.item() for name, value in dict(stats, loss=loss.detach()).items()}


def train(args: argparse.Namespace) -> None:
    """Run (or resume) training up to ``--iterations`` or ``--stop-at``."""
    torch.set_flush_denormal(True)
    trainer = Trainer(args)
    if args.resume and trainer.checkpoint.is_file():
        trainer.load()
    totals: dict[str, float] = {}
    while trainer.iteration < min(args.iterations, args.stop_at or args.iterations):
        for name, value in trainer.step().items():
            totals[name] = totals.get(name, 0.0) + value / args.log_every
        if trainer.iteration % args.log_every == 0:
            line = dict(iteration=trainer.iteration, samples=trainer.iteration * args.images,
                        seconds=round(trainer.seconds), **{name: round(value, 4) for name, value in totals.items()})
            totals = {}
            print(json.dumps(line), flush=True)
            with open(args.work_dir / 'log.jsonl', 'a', encoding='utf-8') as log:
                log.write(json.dumps(line) + '\n')
        if trainer.iteration % args.save_every == 0:
            trainer.save()
    trainer.save()


def export(args: argparse.Namespace) -> dict:
    """The averaged weights of the newest checkpoint as fp16 safetensors; returns what the metadata tells of the run."""
    path = args.work_dir / 'last.pth'
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist: train first (the same command without --export-only), or '
                                'name the --work-dir of a training run')
    state = torch.load(path, map_location='cpu', weights_only=True)
    atomically(args.out, lambda to: save_file({k: v.half().contiguous() for k, v in state['average'].items()}, to))
    return dict(command=state['command'], iterations=state['iteration'], samples_seen=state['iteration'] * args.images,
                prompts_seen=state['iteration'] * args.images * args.points,
                wall_time_seconds=round(state['seconds']))


def write_metadata(args: argparse.Namespace, run: dict, metrics: dict) -> None:
    """The card and where the weights come from, beside them."""
    with open('/proc/cpuinfo', encoding='utf-8') if os.path.exists('/proc/cpuinfo') else open(os.devnull) as info:
        cpu = next((line.split(':')[1].strip() for line in info if line.startswith('model name')), platform.processor())
    cpu = f'{cpu}, {torch.get_num_threads()} thread(s)'
    hardware = torch.cuda.get_device_name() if args.device.startswith('cuda') else cpu
    about = dict(card=load_card(args.card).to_dict(), prompts=['points'], training=dict(
        seed=args.seed, **run, hardware=hardware, torch=torch.__version__, note=args.note), metrics=metrics)
    text = json.dumps(about, indent=2) + '\n'
    atomically(args.out.with_suffix('.json'), lambda path: path.write_text(text, encoding='utf-8'))


# Evaluation ----------------------------------------------------------------------------------------------------------

@torch.no_grad()
def evaluate(sam: FrozenSam, scenes: int, seed: int, generator: dict | None = None) -> dict[str, float]:
    """Held-out scenes like those of ``shapes``: points on objects (uniform over their pixels), the automatic generator.

    Returns:
        ``best_of_3``: mean IoU of the best output with the object; ``whole``, ``part``, ``background``: of the level
        that should answer; ``best_mask_iou``: of the generator's best mask with each object; ``recall_50``,
        ``recall_75``: share of objects with a mask of that IoU; ``masks``, ``seconds``: of the generator per image.
    """
    maker = MaskGenerator(sam, **(GENERATOR if generator is None else generator))
    names = ('best_of_3', 'whole', 'part', 'background', 'best_mask_iou', 'recall_50', 'recall_75', 'masks', 'seconds')
    rows: dict[str, list[float]] = {name: [] for name in names}
    for k in range(scenes):
        rng = np.random.default_rng([EVAL_STREAM, seed, k])
        scene = render_scene(rng, sam.image_size, **DATA_SET_SCENES)
        embedding = sam.embed(sam.preprocess(torch.from_numpy(scene.image).permute(2, 0, 1))[None])
        truth = [(whole, part) for whole, part in hierarchy(scene)]
        ask = [(i.mask, next(m for _, m in i.parts if m[y, x]), x, y) for i in scene.instances
               for y, x in [divmod(int(rng.choice(np.flatnonzero(i.mask))), i.mask.shape[1])]]
        background = truth[-1][0]
        y, x = divmod(int(rng.choice(np.flatnonzero(background))), background.shape[1])
        ask.append((background, background, x, y))
        points = torch.tensor([[float(x), float(y)] for *_, x, y in ask], device=sam.device)
        logits, _ = sam.decode(embedding, torch.zeros(len(ask), dtype=torch.long, device=sam.device), points)
        masks = sam.upscale(logits, scene.image.shape[:2]).cpu() > sam.mask_threshold
        wholes, parts = (torch.from_numpy(np.stack([a[j] for a in ask])) for j in (0, 1))
        iou = mask_iou(masks, wholes[:, None])
        rows['best_of_3'] += iou[:-1].amax(1).tolist()
        rows['whole'] += iou[:-1, 2].tolist()
        rows['part'] += mask_iou(masks[:-1, 1], parts[:-1]).tolist()
        rows['background'].append(iou[-1, 2].item())
        started = time.time()
        found = maker.generate(scene.image)
        rows['seconds'].append(time.time() - started)
        rows['masks'].append(float(len(found)))
        for whole in wholes[:-1]:
            best = mask_iou(found.masks.cpu(), whole[None]).amax().item() if len(found) else 0.0
            rows['best_mask_iou'].append(best)
            rows['recall_50'].append(float(best >= 0.5))
            rows['recall_75'].append(float(best >= 0.75))
    return {name: round(float(np.mean(values)), 4) for name, values in rows.items()}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True,
                        help='weights file (.safetensors); metadata goes beside it as .json')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/tiny_sam'),
                        help='checkpoint and log (default: %(default)s)')
    parser.add_argument('--card', default=None, help='JSON card of another architecture (default: the tiny one)')
    parser.add_argument('--init', type=Path, help='weights (.safetensors) to start from instead of random ones')
    parser.add_argument('--iterations', type=int, default=6000, help='length of the schedule (default: %(default)s)')
    parser.add_argument('--average', type=float, default=0.998,
                        help='decay per iteration of the running average of the weights (default: %(default)s)')
    parser.add_argument('--stop-at', type=int, help='iteration at which to end early, as a kill would, the schedule '
                                                    'unchanged (default: --iterations)')
    parser.add_argument('--images', type=int, default=8, help='scenes per iteration (default: %(default)s)')
    parser.add_argument('--points', type=int, default=10, help='points per scene (default: %(default)s)')
    parser.add_argument('--lr', type=float, default=1e-3, help='peak learning rate of AdamW (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=200, help='iterations (default: %(default)s)')
    parser.add_argument('--weight-decay', type=float, default=0.02, help='(default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of weights and scenes (default: %(default)s)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='(default: cuda where there is one)')
    parser.add_argument('--bf16', action='store_true', help='bf16 autocast')
    parser.add_argument('--resume', action='store_true', help='go on from the checkpoint in --work-dir')
    parser.add_argument('--log-every', type=int, default=50, help='iterations between lines (default: %(default)s)')
    parser.add_argument('--save-every', type=int, default=200,
                        help='iterations between checkpoints (default: %(default)s)')
    parser.add_argument('--eval-scenes', type=int, default=200, help='held-out scenes measured (default: %(default)s)')
    parser.add_argument('--note', default='', help='kept in the metadata')
    parser.add_argument('--eval-only', action='store_true', help='measure the weights in --out, train nothing')
    parser.add_argument('--export-only', action='store_true', help='export and measure the newest checkpoint')
    args = parser.parse_args(argv)
    args.card = TINY_CARD if args.card is None else load_card(args.card)
    args.command = 'python tools/pretrain/train_tiny_sam.py ' + ' '.join(sys.argv[1:] if argv is None else argv)
    return args


def check(args: argparse.Namespace) -> None:
    """Find out now, not after hours of training, what is missing.

    Raises:
        FileNotFoundError: weights that do not exist.
        ValueError: another kind of file than ``.safetensors``, or a device that is not there.
    """
    if args.out.suffix != '.safetensors':
        raise ValueError(f"--out {args.out}: expected a name that ends in .safetensors, got '{args.out.suffix}'")
    if args.eval_only and not args.out.is_file():
        raise FileNotFoundError(f'--out {args.out}: no such weights to measure; train first (the same command without '
                                '--eval-only)')
    if args.init is not None and not args.init.is_file():
        raise FileNotFoundError(f'--init {args.init}: no such weights to start from; name an existing .safetensors '
                                'file, or leave --init out to start from random weights')
    choose_device(args.device)


def main(argv: list[str] | None = None) -> dict:
    with friendly_errors(on_stop=lambda: 'The same command with --resume goes on.'):
        args = parse(argv)
        check(args)
        if not args.eval_only:
            if not args.export_only:
                prepare_work_dir(args.work_dir)
                train(args)
            run = export(args)
        sam = FrozenSam(args.card, str(args.out)).to(args.device)
        metrics = dict(evaluate(sam, args.eval_scenes, seed=EVAL_SEED), scenes=args.eval_scenes, generator=GENERATOR)
        print(json.dumps(metrics, indent=2))
        if not args.eval_only:
            write_metadata(args, run, metrics)
        return metrics


if __name__ == '__main__':
    main()
